"""How much of torchvision's and timm's networks can be pruned, and what does it cost to find out and to cut?

    python benchmarks/architectures.py [--models resnet18 ...] [--side 224] [--step 8] [--repeats 3]
    python benchmarks/architectures.py --models families timm --repeats 1        # needs `pip install timm`

One core, random weights, medians over the repeats. "Prunable" is the share of the MACs of layers whose output channels
can go, in part or whole; "gone at 75 %" the share of the MACs that a cut of every group at its highest level up to 75 %
takes away, as counted in the network that is left. A layer in several groups is left whole only where all of its
channels are. ``families`` stands for one small network of each of torchvision's families, ``timm`` for 40 of timm's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, fx, nn

from pipeline.errors import PipelineError, first_line
from pipeline.models import load_model
from pipeline.pruning.complexity import weigh
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.trace import trace
from pipeline.records import SearchSpace

MODELS = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3",
    "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "regnet_x_400mf", "regnet_y_400mf",
    "resnet18", "resnet50", "resnext50_32x4d", "shufflenet_v2_x1_0", "squeezenet1_1", "vgg16", "wide_resnet50_2",
    "vit_b_32", "swin_t",
)  # fmt: skip
FAMILIES = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3",
    "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18",
    "resnet50", "resnext50_32x4d", "shufflenet_v2_x1_0", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_32",
    "wide_resnet50_2",
)  # fmt: skip
TIMM = tuple(
    f"timm:{name}"
    for name in (
        "convmixer_768_32", "convnext_atto", "convnextv2_atto", "cspdarknet53", "cspresnet50", "darknet53",
        "deit_tiny_patch16_224", "dla34", "dpn68", "ecaresnet26t", "edgenext_xx_small", "efficientnet_lite0",
        "ese_vovnet19b_dw", "fastvit_t8", "fbnetv3_b", "gcresnet33ts", "ghostnet_100", "ghostnetv2_100",
        "hardcorenas_a", "hrnet_w18_small", "inception_next_atto", "lcnet_100",
        "levit_128s", "mixnet_s", "mobilenetv4_conv_small", "mobileone_s0", "mobilevit_xxs",
        "mobilevitv2_050", "nf_resnet26", "poolformer_s12", "repghostnet_100",
        "repvgg_a0", "res2net50_26w_4s", "resnest14d", "resnetv2_50", "rexnet_100", "selecsls42b", "seresnet50",
        "skresnet18", "starnet_s1", "xception41",
    )
)  # fmt: skip
SETS = {"families": FAMILIES, "timm": TIMM}

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Row:
    """One network."""

    macs: int
    groups: int
    removable: int
    """Groups that can go whole."""
    whole: int
    """Layers left whole."""
    prunable: float
    gone: float
    trace_s: float
    space_s: float
    cut_s: float


def main() -> None:
    args = _arguments()
    torch.set_num_threads(1)
    heads = ("M MACs", "groups", "with 100 %", "whole", "prunable", "gone at 75 %", "trace s", "space s", "cut s")
    print(f"{args.side} px, channel step {args.step}, one core, medians of {args.repeats}")
    print(f"{'':<32}" + "".join(f"{head:>14}" for head in heads))
    for name in (name for given in args.models for name in SETS.get(given, (given,))):
        try:
            row = measure(name, args.side, args.step, args.repeats)
        except PipelineError as error:
            print(f"{name:<32}  {first_line(error)}", flush=True)
            continue
        cells = [
            f"{row.macs / 1e6:.0f}",
            row.groups,
            row.removable,
            row.whole,
            f"{row.prunable:.1%}",
            f"{row.gone:.1%}",
        ]
        cells += [f"{seconds:.2f}" for seconds in (row.trace_s, row.space_s, row.cut_s)]
        print(f"{name:<32}" + "".join(f"{cell:>14}" for cell in cells), flush=True)


def measure(name: str, side: int, step: int, repeats: int) -> Row:
    """Return a network's row; raises PipelineError where it cannot be traced or pruned."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, side, side)
    model = _loaded(name)
    # A graph remembers its analysis, so each repeat has a graph of its own.
    traced = [_timed(lambda: trace(model, images)) for _ in range(repeats)]
    spaces = [_timed(partial(search_space, graph, images, step=step)) for graph, _ in traced]
    graph, space = traced[0][0], spaces[0][0]
    cuts = [_timed(lambda: _deepest(graph, space, images)) for _ in range(repeats)]
    return Row(
        macs=space.macs,
        groups=len(space.groups),
        removable=sum(100 in group.kept for group in space.groups),
        whole=len(space.refused),
        prunable=_prunable(space),
        gone=1 - weigh(cuts[0][0], images).macs / space.macs,
        trace_s=statistics.median(seconds for _, seconds in traced),
        space_s=statistics.median(seconds for _, seconds in spaces),
        cut_s=statistics.median(seconds for _, seconds in cuts),
    )


def _loaded(name: str) -> nn.Module:
    if name.startswith("timm:"):
        import timm  # only where it is asked for

        network: nn.Module = timm.create_model(name.removeprefix("timm:"))
        return network
    return load_model(name, classes=1000, channels=3, weights=None)


def _prunable(space: SearchSpace) -> float:
    layers = {layer for group in space.groups for layer in (*group.layers, *group.makes)}
    return sum(macs for layer, macs in space.layer_macs.items() if layer in layers) / space.macs


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--side", type=int, default=224, help="pixels; inception_v3 is made for 299, but takes 224")
    parser.add_argument("--step", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def _timed(make: Callable[[], Made]) -> tuple[Made, float]:
    start = time.perf_counter()
    made = make()
    return made, time.perf_counter() - start


def _deepest(graph: fx.GraphModule, space: SearchSpace, images: Tensor) -> fx.GraphModule:
    levels = tuple(max(level for level in group.levels if level <= 75) for group in space.groups)
    return prune(graph, space, levels, {group.name: torch.arange(group.units) for group in space.groups}, images)


if __name__ == "__main__":
    main()
