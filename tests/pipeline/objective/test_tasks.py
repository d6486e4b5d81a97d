"""The tasks that ship: what they score by hand-made answers, and that their losses fall towards the targets."""

from __future__ import annotations

import importlib

import pytest
import torch
from sklearn.metrics import average_precision_score, r2_score
from torch import Tensor
from torch.nn import functional

from pipeline.errors import ConfigError
from pipeline.objective.load import load_task
from pipeline.objective.task import Judged, Task
from pipeline.objective.tasks.detection import Detection, decoded, encoded, overlaps, suppressed


def score(task: Task, *batches: tuple[object, object]) -> float:
    judged = Judged(task)
    for outputs, targets in batches:
        judged.add(outputs, targets)
    return judged.score()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_classification_is_cross_entropy_and_the_share_of_right_answers() -> None:
    task, scores, labels = load_task("classification"), random(6, 3), torch.arange(6) % 3
    assert torch.equal(task.loss_of(scores, labels), functional.cross_entropy(scores, labels))
    assert score(task, (scores[:4], labels[:4]), (scores[4:], labels[4:])) == (scores.argmax(1) == labels).sum() / 6
    assert task.distillation(scores, scores, temperature=2.0).item() == pytest.approx(0, abs=1e-6)


def test_labels_are_scored_by_the_mean_average_precision_of_those_that_there_are() -> None:
    task, scores = load_task("multi-label"), random(20, 3)
    targets = (random(20, 3, seed=1) > 0).to(torch.int64)
    targets[:, 2] = 0
    expected = [average_precision_score(targets[:, i].numpy(), scores[:, i].numpy()) for i in (0, 1)]
    assert score(task, (scores[:9], targets[:9]), (scores[9:], targets[9:])) == pytest.approx(sum(expected) / 2)
    assert task.loss_of(scores, targets).item() == pytest.approx(
        functional.binary_cross_entropy_with_logits(scores, targets.float()).item()
    )


def test_a_regression_is_scored_by_the_variance_explained_of_each_number() -> None:
    task, wanted = load_task("regression"), random(30, 2)
    found = wanted + 0.3 * random(30, 2, seed=1)
    assert score(task, (found, wanted)) == pytest.approx(r2_score(wanted.numpy(), found.numpy()))
    assert score(task, (found[:, :1], wanted[:, 0])) == pytest.approx(
        r2_score(wanted[:, 0].numpy(), found[:, 0].numpy())
    )
    assert score(task, (-5 * wanted, wanted)) == 0


def test_a_regression_may_have_outputs_of_any_structure_if_the_targets_have_it_too() -> None:
    task, one, two = load_task("regression"), random(8, 2), random(8, 3)
    assert score(task, ({"a": one, "b": (two,)}, {"a": one, "b": (two,)})) == 1
    assert task.loss_of({"a": one, "b": (two,)}, {"a": one, "b": (two + 1,)}).item() == pytest.approx(1)
    with pytest.raises(ConfigError, match=r"the network answers with a \(8, 2\), the targets are a tensor \(8, 2\)"):
        task.loss_of({"a": one}, one)


def test_a_segmentation_is_scored_over_the_pixels_of_the_whole_split() -> None:
    task = load_task("segmentation")
    targets = torch.tensor([[[0, 1], [1, 255]], [[0, 0], [2, 2]]])
    answers = torch.tensor([[[0, 1], [0, 2]], [[0, 0], [2, 1]]])
    outputs = functional.one_hot(answers, 3).permute(0, 3, 1, 2).float()
    halves = [(outputs[i : i + 1], targets[i : i + 1]) for i in (0, 1)]
    assert score(task, *halves) == pytest.approx((3 / 4 + 1 / 3 + 1 / 2) / 3)
    assert score(task, (functional.one_hot(targets.clamp(max=2), 3).permute(0, 3, 1, 2).float(), targets)) == 1


def test_a_smaller_map_is_scaled_up_to_the_mask() -> None:
    task = load_task("segmentation")
    targets = torch.ones(1, 4, 4, dtype=torch.int64)
    outputs = torch.tensor([0.0, 5.0]).reshape(1, 2, 1, 1).expand(1, 2, 2, 2)
    assert score(task, (outputs, targets)) == 1
    assert task.loss_of(outputs, targets).item() < 0.01


@pytest.mark.parametrize(
    ("name", "shape", "targets"),
    [
        ("classification", (8, 3), torch.arange(8) % 3),
        ("multi-label", (8, 3), torch.arange(24).reshape(8, 3) % 2),
        ("regression", (8, 3), random(8, 3, seed=3)),
        ("segmentation", (2, 3, 4, 4), torch.arange(32).reshape(2, 4, 4) % 3),
    ],
)
def test_what_lowers_the_loss_raises_the_score(name: str, shape: tuple[int, ...], targets: Tensor) -> None:
    task, outputs = load_task(name), random(*shape).requires_grad_()
    before = score(task, (outputs.detach(), targets))
    optimizer = torch.optim.SGD([outputs], lr=2.0)
    for _ in range(50):
        optimizer.zero_grad()
        task.loss_of(outputs, targets).backward()
        optimizer.step()
    assert before < 0.99 < score(task, (outputs.detach(), targets))


# ---------------------------------------------------------------- detection


ANCHORS = torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8], [0, 8, 8, 16], [8, 8, 16, 16]])


def detector(**settings: float) -> Task:
    from pipeline.objective.task import task_of

    return task_of(Detection(ANCHORS, **settings), "detection")  # type: ignore[arg-type]


def targets() -> list[dict[str, Tensor]]:
    return [
        {"boxes": torch.tensor([[0.0, 1, 8, 8], [9, 8, 16, 16]]), "labels": torch.tensor([1, 2])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]


def perfect() -> dict[str, Tensor]:
    logits = torch.zeros(2, 4, 3)
    logits[..., 0] = 9.0
    logits[0, 0], logits[0, 3] = torch.tensor([0.0, 9, 0]), torch.tensor([0.0, 0, 9])
    boxes = torch.zeros(2, 4, 4)
    boxes[0, [0, 3]] = encoded(targets()[0]["boxes"], ANCHORS[[0, 3]])
    return {"bbox_regression": boxes, "cls_logits": logits}


def test_boxes_survive_being_encoded() -> None:
    boxes = ANCHORS + torch.tensor([1.0, -2, 3, 4])
    assert torch.allclose(decoded(encoded(boxes, ANCHORS), ANCHORS), boxes, atol=1e-4)
    assert torch.allclose(overlaps(ANCHORS, ANCHORS), torch.eye(4))


def test_of_boxes_of_one_class_that_overlap_the_likeliest_stays() -> None:
    boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 7], [0, 0, 8, 7], [20, 20, 28, 28]])
    assert suppressed(boxes, torch.tensor([1, 1, 2, 1]), 0.5).tolist() == [0, 2, 3]


def test_a_perfect_detector_has_no_loss_and_a_perfect_score() -> None:
    importlib.import_module("pipeline.torchvision_compat")  # torchmetrics imports torchvision
    pytest.importorskip("torchmetrics")
    task = detector()
    assert task.loss_of(perfect(), targets()).item() < 0.01
    assert score(task, (perfect(), targets())) == pytest.approx(1)


def test_a_detector_that_sees_nothing_scores_nothing() -> None:
    importlib.import_module("pipeline.torchvision_compat")  # torchmetrics imports torchvision
    pytest.importorskip("torchmetrics")
    blind = perfect()
    blind["cls_logits"][..., 0] = 99
    assert score(detector(), (blind, targets())) == 0


def test_a_detector_learns_from_targets_and_from_a_teacher() -> None:
    task = detector()
    for against in (lambda o: task.loss_of(o, targets()), lambda o: task.distillation(o, perfect(), temperature=1.0)):
        parts = {name: torch.zeros_like(part).requires_grad_() for name, part in perfect().items()}
        first = against(parts).item()
        optimizer = torch.optim.Adam(parts.values(), lr=0.1)
        for _ in range(100):
            optimizer.zero_grad()
            against(parts).backward()
            optimizer.step()
        assert against(parts).item() < 0.1 * first


def test_detection_by_name_alone_says_that_it_needs_the_anchors() -> None:
    with pytest.raises(ConfigError, match=r"TASK = Detection\(anchors\)"):
        load_task("detection").loss_of(perfect(), targets())
