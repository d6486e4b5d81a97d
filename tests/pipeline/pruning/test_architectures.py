"""Each of torchvision's classification families, cut by every level.

Random weights, few blocks, 64 × 64 pixels where a network takes so few. ``benchmarks/architectures.py`` cuts the
smallest networks that torchvision has of each, and says how long it takes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from pipeline.errors import ModelError
from pipeline.export.onnx.exporter import export
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.trace import trace
from pipeline.records import OnnxSupport, SearchSpace
from tests.pipeline import torchvision_networks as families
from tests.pipeline.pruning.oracle import at_random, distinct, plan, require_widths, silenced

SUPPORT = OnnxSupport(17, 8)
STEP = 8

FAMILIES = (
    families.alexnet, families.convnext, families.densenet, families.efficientnet, families.googlenet,
    families.inception, families.mnasnet, families.mobilenet_v2, families.mobilenet_v3, families.regnet,
    families.regnet_with_squeeze, families.resnet, families.resnet_of_bottlenecks, families.resnext,
    families.shufflenet, families.squeezenet, families.vgg,
)  # fmt: skip
TRANSFORMERS = (families.vit, families.swin, families.swin_v2, families.maxvit)

SIDES = {families.inception: 80, families.alexnet: 96}
"""Pixels where 64 are too few: ONNX has no adaptive pooling to more pixels than there are."""
INEXACT = (families.convnext,)
"""LayerNorm scales channels by one another, so a cut changes the values of those that stay."""

Family = tuple[Callable[[], nn.Module], fx.GraphModule, SearchSpace, Tensor]


def build(network: Callable[[], nn.Module]) -> Family:
    side = SIDES.get(network, 64)
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    traced = trace(distinct(families.build(network)), images)
    return network, traced, search_space(traced, images, step=STEP), images


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return build(request.param)


@pytest.fixture(scope="module")
def mixed(family: Family) -> fx.GraphModule:
    """The family cut by 25, 50 and 75 % in turns."""
    _, base, space, images = family
    return prune(base, space, plan(space, "mixed"), at_random(space), images)


@pytest.mark.slow
@pytest.mark.parametrize("levels", ["mixed", "100"])
def test_every_family_can_be_cut_trained_and_exported(family: Family, mixed: fx.GraphModule, levels: str) -> None:
    _, base, space, images = family
    wanted = plan(space, levels)
    pruned = copy.deepcopy(mixed) if levels == "mixed" else prune(base, space, wanted, at_random(space), images)
    require_widths(base, pruned, space, wanted, images)
    scores = pruned(images)
    assert scores.shape == (len(images), families.CLASSES)
    assert scores.isfinite().all()
    scores.square().sum().backward()
    assert [name for name, p in pruned.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    export(pruned, images, SUPPORT)  # compares the file's answers with the network's


@pytest.mark.slow
def test_a_cut_family_answers_as_the_uncut_one_that_does_not_read_the_channels(
    family: Family, mixed: fx.GraphModule
) -> None:
    network, base, _, images = family
    if network in INEXACT:
        pytest.skip("see INEXACT")
    pruned = copy.deepcopy(mixed)
    with torch.no_grad():
        answers, expected = pruned(images), silenced(base, pruned)(images)
    torch.testing.assert_close(answers, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


@pytest.mark.slow
@pytest.mark.parametrize("network", TRANSFORMERS)
def test_a_vision_transformer_is_cut_rightly_or_refused_with_reasons(network: Callable[[], nn.Module]) -> None:
    try:
        _, base, space, images = build(network)
    except ModelError as error:
        assert "nothing in this model can be pruned (" in str(error)  # noqa: PT017
        return
    assert all(reason.strip() for reason in space.refused.values())
    scores = prune(base, space, plan(space, "50"), at_random(space), images)(images)
    assert scores.shape == (len(images), families.CLASSES)
    assert scores.isfinite().all()
