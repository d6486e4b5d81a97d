"""The smallest network of each of torchvision's classification families, cut by every level.

Random weights, 64 × 64 pixels where a network takes so few. ``benchmarks/architectures.py`` says how long it takes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from pipeline.errors import ModelError
from pipeline.export.onnx.exporter import export
from pipeline.models import load_model
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.trace import trace
from pipeline.records import OnnxSupport, SearchSpace
from pipeline.torchvision_compat import torchvision
from tests.pipeline.pruning.networks import lively
from tests.pipeline.pruning.oracle import at_random, distinct, plan, require_widths, silenced

SUPPORT = OnnxSupport(17, 8)
STEP = 8
CLASSES = 7

FAMILIES = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3",
    "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18", "resnet50",
    "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "vgg11_bn",
)  # fmt: skip
SWIN: dict[str, Any] = {
    "patch_size": [4, 4], "embed_dim": 24, "depths": [2, 2], "num_heads": [3, 6], "window_size": [4, 4],
    "num_classes": CLASSES,
}  # fmt: skip
TRANSFORMERS: dict[str, Callable[[], nn.Module]] = {
    "vit": lambda: torchvision.models.VisionTransformer(64, 16, 2, 4, 64, 128, num_classes=CLASSES),
    "swin": lambda: torchvision.models.SwinTransformer(**SWIN),
    "swin_v2": lambda: torchvision.models.SwinTransformer(
        **SWIN, block=torchvision.models.swin_transformer.SwinTransformerBlockV2,
        downsample_layer=torchvision.models.swin_transformer.PatchMergingV2,
    ),
    "maxvit": lambda: torchvision.models.MaxVit(
        input_size=(64, 64), stem_channels=16, partition_size=4, block_channels=[16, 32], block_layers=[1, 1],
        head_dim=8, stochastic_depth_prob=0.2, num_classes=CLASSES,
    ),
}  # fmt: skip
"""As torchvision builds them, but small."""

SIDES = {"inception_v3": 80, "alexnet": 224, "vgg11_bn": 224}
"""Pixels where 64 are too few: ONNX has no adaptive pooling to more pixels than there are."""
INEXACT = ("convnext_tiny",)
"""LayerNorm scales channels by one another, so a cut changes the values of those that stay."""
HUGE = ("alexnet", "vgg11_bn")
"""Their weights have more values than float32 has different ones."""

Family = tuple[str, fx.GraphModule, SearchSpace, Tensor]


def build(name: str) -> Family:
    side = SIDES.get(name, 64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        images = torch.randn(2, 3, side, side)
        if name in TRANSFORMERS:
            model = TRANSFORMERS[name]()
        else:
            model = load_model(name, classes=CLASSES, channels=3, weights=None)
        network = trace(lively(model) if name in HUGE else distinct(model), images)
    return name, network, search_space(network, images, step=STEP), images


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
    assert scores.shape == (len(images), CLASSES)
    assert scores.isfinite().all()
    scores.square().sum().backward()
    assert [name for name, p in pruned.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    export(pruned, images, SUPPORT)  # compares the file's answers with the network's


@pytest.mark.slow
def test_a_cut_family_answers_as_the_uncut_one_that_does_not_read_the_channels(
    family: Family, mixed: fx.GraphModule
) -> None:
    name, base, _, images = family
    if name in HUGE + INEXACT:
        pytest.skip("see HUGE and INEXACT")
    pruned = copy.deepcopy(mixed)
    with torch.no_grad():
        answers, expected = pruned(images), silenced(base, pruned)(images)
    torch.testing.assert_close(answers, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_vision_transformer_is_cut_rightly_or_refused_with_reasons(name: str) -> None:
    try:
        _, base, space, images = build(name)
    except ModelError as error:
        assert "nothing in this model can be pruned (" in str(error)  # noqa: PT017
        return
    assert all(reason.strip() for reason in space.refused.values())
    scores = prune(base, space, plan(space, "50"), at_random(space), images)(images)
    assert scores.shape == (len(images), CLASSES)
    assert scores.isfinite().all()
