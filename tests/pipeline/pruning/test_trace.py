from __future__ import annotations

import copy
import random

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune, spectral_norm

from pipeline.errors import ModelError
from pipeline.pruning.trace import notes, trace
from tests.pipeline.pruning.networks import IMAGES, Chain, Residual
from tests.variations import one_in


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


class Maps(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> None:  # noqa: ARG002
        return None


class Asking(nn.Module):
    """Asks Python's questions about sizes: a branch, assert, len, int, float, range, iteration, unpacking."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor, targets: Tensor | None = None, *, scale: float = 1.0) -> Tensor:
        assert x.dim() == 4, "images wanted"
        torch._assert(x.shape[1] == 3, "colour wanted")
        if x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        if targets is not None:
            return targets
        for i in range(x.shape[1]):
            x = self.convs[i](x)
        _, _, height, width = (int(size) for size in x.shape)
        x = functional.adaptive_avg_pool2d(x, (height // 4, int(float(width) / 4)))
        return self.fc(x.reshape(*x.shape[: len(x.shape) - 3], -1) * scale)


class Gate(nn.Module):
    """Branches on values, with a convolution inside."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(torch.relu(x))
        return y if y.mean() > -1000 else x


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.gate, self.conv2 = nn.Conv2d(3, 8, 3), Gate(), nn.Conv2d(8, 8, 3)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv2(self.gate(self.conv1(x))).mean((2, 3)))


class Heads(nn.Module):
    """Answers in whichever form it is told to, with an auxiliary head and feature maps."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form, self.conv = form, nn.Conv2d(3, 8, 3)
        self.aux, self.fc = nn.Linear(8, 7), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> object:
        maps = self.conv(x)
        pooled = maps.mean((2, 3))
        scores, aux = self.fc(pooled), self.aux(pooled)
        return {
            "tuple": (scores, aux),
            "list": [maps, scores],
            "nested": (maps, [scores, aux]),
            "dict": {"aux": aux, "logits": scores, "maps": maps},
        }[self.form]


class Together(nn.Module):
    """An inner module hands out two tensors and branches on values: what it answers is not known to the tracer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = TwoOfThem()

    def forward(self, x: Tensor) -> object:
        return self.inner(x)


class TwoOfThem(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x, x.mean((2, 3))) if x.sum() > -1e9 else (x, x.amax((2, 3)))


class InPlace(nn.Module):
    """Changes tensors in place and drops what the calls return."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.fc = nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(x)
        self.relu(x)
        x.mul_(3).sub_(1)
        functional.relu(x, inplace=True)
        x += 1
        return self.fc(x.mean((2, 3))), x


class MadeOnTheFly(nn.Module):
    """Slices a Sequential and makes layers without weights while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 5, 1))

    def forward(self, x: Tensor) -> Tensor:
        return nn.Softmax(dim=1)(nn.AdaptiveAvgPool2d(1)(self.body[3](self.body[:2](x))).flatten(1))


class ByChance(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) * random.random()


class Fussy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 2:
            raise ValueError("give less")
        return x.mean((2, 3))


class BatchBound(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) * int(x.shape[0])


class Drops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.dropout = nn.Linear(3, 5), nn.Dropout(0.9)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(functional.dropout(self.dropout(x).mean((2, 3)), 0.9, self.training))


def same(model: nn.Module, traced: nn.Module, images: Tensor = IMAGES) -> None:
    with torch.no_grad():
        torch.testing.assert_close(traced(images), model.eval()(images))


def test_parameter_names_stay_and_the_network_is_in_eval_mode() -> None:
    model = Chain().train()
    traced = trace(model, IMAGES)
    assert list(traced.state_dict()) == list(model.state_dict())
    assert not any(module.training for module in traced.modules())
    assert notes(traced).sentences() == []


def test_the_model_itself_is_left_as_it_was() -> None:
    model = Chain().train()
    traced = trace(model, IMAGES)
    assert model.training
    traced.conv1.weight.data.zero_()
    assert model.conv1.weight.abs().sum() > 0


def test_dropout_does_nothing_once_traced_although_the_model_was_training() -> None:
    model = Drops().train()
    same(model, trace(model, IMAGES))


def test_a_forward_that_branches_on_its_input_is_told_what_to_change() -> None:
    with pytest.raises(ModelError, match=r"Branching cannot be traced: .*branches on values.*test_trace.py:\d+.*where"):
        trace(Branching(), IMAGES)


def test_an_input_that_does_not_fit_is_told_with_the_cause_in_one_line() -> None:
    with pytest.raises(ModelError, match=r"does not run on an input of shape \(4, 1, 8, 8\): .*channels") as caught:
        trace(Chain(), torch.zeros(4, 1, 8, 8))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "found"), [(Maps, r"\(3, 3, 8, 8\)"), (Nothing, "none")])
def test_a_model_must_answer_with_one_score_a_class(kind: type[nn.Module], found: str) -> None:
    with pytest.raises(ModelError, match=rf"must return one tensor of class scores, \(N, classes\).* are: {found}"):
        trace(kind(), IMAGES)


def test_questions_about_sizes_are_answered_and_other_arguments_take_their_defaults() -> None:
    model = Asking()
    traced = trace(model, IMAGES)
    same(model, traced)
    same(model, traced, IMAGES[:1])
    assert [node.target for node in traced.graph.nodes if node.op == "placeholder"] == ["x"]
    assert torch._assert not in [node.target for node in traced.graph.nodes]


def test_slices_and_layers_made_on_the_fly_are_traced_into() -> None:
    model = MadeOnTheFly()
    traced = trace(model, IMAGES)
    same(model, traced)
    assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == ["body.0", "body.1", "body.3"]


def test_a_module_that_branches_on_values_stays_whole_and_the_rest_is_traced() -> None:
    model = Gated()
    traced = trace(model, IMAGES)
    same(model, traced)
    assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == ["conv1", "gate", "conv2", "fc"]
    assert list(notes(traced).whole) == ["gate"]
    assert "gate stays as it is, it cannot be traced: " in notes(traced).sentences()[0]
    assert set(traced.state_dict()) == set(model.state_dict())


@pytest.mark.parametrize(
    ("form", "dropped"),
    [
        ("tuple", ("output[1], 7 an image",)),
        ("list", ("output[0], 8 × 6 × 6 an image",)),
        ("nested", ("output[0], 8 × 6 × 6 an image", "output[1][1], 7 an image")),
        ("dict", ("output['aux'], 7 an image", "output['maps'], 8 × 6 × 6 an image")),
    ],
)
def test_of_several_outputs_the_class_scores_stay_and_the_others_are_named(form: str, dropped: tuple[str, ...]) -> None:
    model = Heads(form)
    traced = trace(model, IMAGES)
    assert traced(IMAGES).shape == (4, 5)
    assert notes(traced).dropped == dropped
    assert notes(copy.deepcopy(traced)).dropped == dropped
    assert not [name for name in traced.state_dict() if name.startswith("aux")]


def test_the_number_of_classes_tells_the_scores_from_other_flat_outputs() -> None:
    class Swapped(Heads):
        def forward(self, x: Tensor) -> object:
            scores, aux = super().forward(x)
            return aux, scores

    assert trace(Swapped("tuple"), IMAGES)(IMAGES).shape == (4, 7)
    assert trace(Swapped("tuple"), IMAGES, classes=5)(IMAGES).shape == (4, 5)


def test_scores_are_taken_out_of_what_an_untraceable_module_returns() -> None:
    traced = trace(Together(), IMAGES)
    torch.testing.assert_close(traced(IMAGES), IMAGES.mean((2, 3)))


def test_changes_in_place_survive_although_nobody_reads_their_result() -> None:
    model = InPlace()
    traced = trace(model, IMAGES)
    torch.testing.assert_close(traced(IMAGES), model(IMAGES)[0])


@pytest.mark.parametrize(
    ("kind", "why"),
    one_in(2, [(BatchBound, "depends on how many images"), (ByChance, "depend on chance")]),
)
def test_what_would_be_recorded_wrongly_is_refused_with_the_cause(kind: type[nn.Module], why: str) -> None:
    random.seed(0)
    with pytest.raises(ModelError, match=f"{kind.__name__} answers otherwise once it is traced: .*{why}"):
        trace(kind(), IMAGES)


def test_an_error_of_the_users_own_is_told_with_its_line() -> None:
    with pytest.raises(ModelError, match=r"Fussy does not run on an input .*: give less \(test_trace.py:\d+\)"):
        trace(Fussy(), IMAGES)


def test_a_torchscript_network_is_refused_with_what_to_give_instead() -> None:
    with pytest.warns(DeprecationWarning, match="torch.jit.script"):
        scripted = torch.jit.script(Chain())
    with pytest.raises(ModelError, match=r"TorchScript module.*give the nn.Module that it was made from"):
        trace(scripted, IMAGES)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_wrappers_and_reparametrised_weights_are_folded_into_plain_ones() -> None:
    model = Chain().eval()
    parametrizations.weight_norm(model.conv1)
    parametrizations.spectral_norm(model.hidden)
    torch.nn.utils.weight_norm(model.conv2)
    spectral_norm(model.fc)
    before = list(model.state_dict())
    traced = trace(nn.DataParallel(model), IMAGES)
    same(model, traced)
    assert list(model.state_dict()) == before
    assert set(traced.state_dict()) == set(Chain().state_dict())
    assert notes(traced).folded == (
        "conv1.weight's parametrization",
        "hidden.weight's parametrization",
        "conv2's WeightNorm",
        "fc's SpectralNorm",
    )


def test_masks_of_torchs_own_pruning_and_wrappers_inside_are_folded() -> None:
    model = Residual().eval()
    prune.ln_structured(model.block2.conv1, "weight", 0.5, n=2, dim=0)
    model.block3 = nn.DataParallel(model.block3)
    traced = trace(model, IMAGES)
    same(model, traced)
    assert set(traced.state_dict()) == set(Residual().state_dict())
    assert notes(traced).folded == ("block3's wrapper", "block2.conv1's LnStructured")
