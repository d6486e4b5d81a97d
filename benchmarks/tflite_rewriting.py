"""How long does a TFLite candidate take, and how near are its answers to torch's? One table.

    python benchmarks/tflite_rewriting.py [NET ...]

The base is converted once; a candidate is the converted base rewritten. Levels are given to all groups at once; batch
norms get random statistics, so that scores are of the size of trained networks'. The error is relative to the largest
score, the largest over all levels; seconds to rewrite are those of the slowest level, checking its answers apart.
"""

from __future__ import annotations

import copy
import sys
import time

import torch

from pipeline.export.constants import constants, distinct
from pipeline.export.formats.tflite import template_of
from pipeline.export.tflite.converter import convert
from pipeline.export.tflite.environment import converter_python
from pipeline.export.tflite.interpreter import answers
from pipeline.export.tflite.rewrite import rewrite
from pipeline.export.verify_outputs import difference
from pipeline.models import load_model
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.trace import trace
from pipeline.records import LEVELS

NETS = {"resnet20": 32, "mobilenet_v2": 224, "resnet18": 224, "mobilenet_v3_small": 224, "efficientnet_b0": 96}
IMAGES = 8


def main(names: list[str]) -> None:
    python = converter_python(print)
    print(f"{'net':<20}{'input':>6}{'convert':>10}{'rewrite':>10}{'check':>9}{'largest error':>16}")
    for name in names:
        side = NETS.get(name, 224)
        images = torch.randn(IMAGES, 3, side, side, generator=torch.Generator().manual_seed(1))
        base = trace(load_model(name, classes=10, channels=3, weights=None), images)
        started = time.perf_counter()
        network = distinct(copy.deepcopy(base))
        template = template_of(convert(python, network, images), network, images)
        converted = time.perf_counter() - started
        if template is None:
            print(f"{name:<20}{side:>6}{converted:>8.1f} s   converted in full each time")
            continue
        space = search_space(base, images[:2], step=8)
        ranking = {group.name: torch.arange(group.channels) for group in space.groups}
        rewriting, checking, errors = [], [], []
        for level in LEVELS:
            levels = tuple(level if level in group.kept else 0 for group in space.groups)
            candidate = distinct(prune(base, space, levels, ranking, images[:2]), seed=level)
            started = time.perf_counter()
            data = rewrite(template, constants(candidate))
            rewriting.append(time.perf_counter() - started)
            errors.append(difference(candidate, images, answers(data, images.numpy())))
            checking.append(time.perf_counter() - started - rewriting[-1])
        print(
            f"{name:<20}{side:>6}{converted:>8.1f} s{max(rewriting):>8.3f} s{max(checking):>7.2f} s{max(errors):>16.1e}"
        )


if __name__ == "__main__":
    main(sys.argv[1:] or list(NETS))
