from __future__ import annotations

import io
from dataclasses import replace

import pytest
import torch
from torch import fx

from device_agents.skeleton import expand, parse
from pipeline.config import EvaluationConfig, FineTuningConfig
from pipeline.data import load_data
from pipeline.errors import CutError
from pipeline.evaluation.candidate_builder import Builder
from pipeline.export.format import open_format
from pipeline.models import default_model, load_model
from pipeline.pruning.complexity import sparsity, weigh
from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.importance.ranking import rank
from pipeline.pruning.reconstruction.batch_norm import accuracy
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.trace import trace
from pipeline.records import OnnxSupport, PruningPlan
from pipeline.training.accelerator import cpu
from tests.pipeline.pruning.networks import lively


@pytest.fixture(scope="module")
def builder() -> Builder:
    """The digits and the network that suits them; its batch norms differ, as a trained network's do."""
    data = load_data("digits", seed=0)
    example = next(data.train.batches(4))[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = load_model(default_model(data), classes=10, channels=1, weights=None)
    base = trace(lively(model), example)
    space = search_space(base, example, step=8)
    return Builder(
        base=base, space=space, ranking=rank(base, space, "l1", dependency_graph(base, example).groups, []),
        data=data, example=example,
        settings=EvaluationConfig(batch_norm_images=64, search_images=100), fine_tuning=FineTuningConfig(),
        format=open_format("onnx", base, example, support=OnnxSupport(13, 7)),
    )  # fmt: skip


def halved(builder: Builder) -> PruningPlan:
    return PruningPlan(levels=tuple(50 if 50 in g.kept else 0 for g in builder.space.groups))


def evaluated(builder: Builder, plan: PruningPlan) -> tuple[fx.GraphModule, float]:
    """A plan's network and its accuracy, in the precision that the search computes them in."""
    with cpu().autocast():
        network = builder.network(plan)
        return network, accuracy(network, builder.data.search, 100)


def test_a_candidate_says_what_the_cut_network_is(builder: Builder) -> None:
    built = builder.build(halved(builder))
    network, share = evaluated(builder, halved(builder))
    weight = weigh(network, builder.example)
    assert (built.candidate.parameters, built.candidate.macs) == (weight.parameters, weight.macs)
    assert built.candidate.key == builder.space.key(halved(builder).levels)
    assert built.candidate.accuracy == share
    assert built.candidate.size_bytes == len(builder.format.file(network))
    assert built.candidate.probe_bytes == len(built.skeleton.data) < built.candidate.size_bytes
    assert built.seconds.keys() == {"cut", "accuracy", "export", "weigh"}
    assert all(seconds > 0 for seconds in built.seconds.values())


def test_the_same_plan_gives_the_same_candidate(builder: Builder) -> None:
    one, other = builder.build(halved(builder)), builder.build(halved(builder))
    assert (one.candidate, one.skeleton) == (other.candidate, other.skeleton)


def test_the_base_is_its_own_empty_plan_and_stays_as_it_was(builder: Builder) -> None:
    known = {name: value.clone() for name, value in builder.base.state_dict().items()}
    untouched = builder.build(PruningPlan(levels=tuple(0 for _ in builder.space.groups)))
    with cpu().autocast():
        assert untouched.candidate.accuracy == accuracy(builder.base, builder.data.search, 100)
    builder.build(halved(builder))
    assert all(torch.equal(value, known[name]) for name, value in builder.base.state_dict().items())


def test_batch_norm_is_estimated_anew_after_a_cut(builder: Builder) -> None:
    plan = halved(builder)
    raw = prune(builder.base, builder.space, plan.levels, builder.ranking, builder.example)
    fresh = builder.network(plan)
    means = [name for name in raw.state_dict() if name.endswith("running_mean")]
    assert means
    assert any(not torch.equal(raw.state_dict()[name], fresh.state_dict()[name]) for name in means)


def test_layers_behind_a_cut_are_fitted_to_it_unless_the_settings_leave_that_out(builder: Builder) -> None:
    plan = halved(builder)
    raw = prune(builder.base, builder.space, plan.levels, builder.ranking, builder.example)
    plain = replace(builder, settings=builder.settings.model_copy(update={"reconstruction_samples": 0}))
    before, normed, fitted = (dict(n.named_parameters()) for n in (raw, plain.network(plan), builder.network(plan)))
    assert all(torch.equal(value, before[name]) for name, value in normed.items())
    assert any(not torch.equal(value, before[name]) for name, value in fitted.items())


def test_a_finalist_is_fitted_more_closely_than_its_candidate_unless_the_settings_leave_that_out(
    builder: Builder,
) -> None:
    plan, (images, _) = halved(builder), next(builder.data.train.batches(200))

    def error(network: fx.GraphModule) -> float:
        with torch.no_grad():
            return float((network(images) - builder.base(images)).square().mean())

    plain = replace(builder, fine_tuning=FineTuningConfig(reconstruction_samples=0))
    candidate = plain.network(plan)
    assert error(builder.finalist(plan)) < 0.9 * error(candidate)
    assert error(plain.finalist(plan)) == error(candidate)


def test_single_weights_become_zero_and_every_channel_stays(builder: Builder) -> None:
    levels = (0,) * len(builder.space.groups)
    plan = PruningPlan(levels=levels, zeros=(0.5,) * len(builder.space.weights))
    built, (network, share) = builder.build(plan), evaluated(builder, plan)
    assert built.candidate.sparsity == sparsity(network) == pytest.approx(0.5, abs=1e-3)
    assert built.candidate.accuracy == share
    assert built.candidate.size_bytes == builder.build(PruningPlan(levels=levels)).candidate.size_bytes
    assert built.candidate.key != builder.space.key(levels)
    assert built.skeleton == builder.skeleton(levels)
    means = {name: value for name, value in network.state_dict().items() if name.endswith("running_mean")}
    assert any(not torch.equal(value, builder.base.state_dict()[name]) for name, value in means.items())
    assert sparsity(builder.base) == 0


def test_a_probe_stands_for_the_candidates_structure_without_its_weights(builder: Builder) -> None:
    plan = halved(builder)
    alone, built = parse(builder.skeleton(plan.levels).data), parse(builder.build(plan).skeleton.data)
    assert alone.size == built.size
    assert [fill.nbytes for fill in alone.fills] == [fill.nbytes for fill in built.fills]
    whole = io.BytesIO()
    expand(alone, whole)
    assert len(whole.getvalue()) == alone.size


def test_an_illegal_plan_is_one_candidates_failure(builder: Builder) -> None:
    with pytest.raises(CutError, match="level 33 is not legal here"):
        builder.build(PruningPlan(levels=(33,) + (0,) * (len(builder.space.groups) - 1)))
