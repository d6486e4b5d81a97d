"""How long does an ONNX candidate take, and how near are its answers to torch's? One table.

    python benchmarks/onnx_rewriting.py [NET[:SIDE] ...]

``full`` is what each candidate took before it was put together of parts: torch's exporter and onnxruntime's folding.
``skeleton`` is what a candidate takes during the search: its operators written, every shape checked, the file
and its size; ``first`` the same for the candidate that meets the most operations never exported before. ``file`` is the
whole file, ``check`` its answers to eight images beside torch's, as finalists are checked. Levels are given to all
groups at once; seconds are those of the slowest level, the base among them: of the processor, with one thread, so that
other programs do not show. Batch norms get random statistics, so that scores are of the size of trained networks'; the
error is relative to the largest score, the largest over all levels, and beside it stands that of the full exports.
``alike`` says whether all have their full export's operators.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass

import onnx
import torch
from torch import Tensor, fx

from pipeline.export.constants import distinct
from pipeline.export.format import INPUT, OUTPUT
from pipeline.export.onnx.compose import Composition, compose
from pipeline.export.onnx.exporter import answers
from pipeline.export.onnx.operator_export import Fragments
from pipeline.export.onnx.torch_exporter import exported, opset_of
from pipeline.export.verify_outputs import difference
from pipeline.models import load_model
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.trace import trace
from pipeline.records import LEVELS, OnnxSupport

NETS = ("resnet20:32", "resnet18:224", "mobilenet_v2:224", "efficientnet_b0:224", "densenet121:224")
IMAGES = 8
SUPPORT = OnnxSupport(17, 8)


@dataclass(frozen=True)
class Row:
    """One candidate's seconds and errors."""

    full: float
    first: float
    skeleton: float
    file: float
    check: float
    error: float
    full_error: float
    alike: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", default=NETS, metavar="NET[:SIDE]")
    args = parser.parse_args()
    torch.set_num_threads(1)  # onnxruntime is given as many
    print(
        f"{'net':<16}{'input':>6}{'full':>10}{'first':>9}{'skeleton':>9}{'file':>9}{'check':>9}"
        f"{'largest error':>15}{'of the full':>13}{'alike':>7}"
    )
    for net in args.nets:
        name, _, side = net.partition(":")
        _show(name, int(side or 224))


def _show(name: str, side: int) -> None:
    images = torch.randn(IMAGES, 3, side, side, generator=torch.Generator().manual_seed(1))
    base = trace(load_model(name, classes=10, channels=3, weights=None), images[:2])
    fragments = Fragments(opset_of(SUPPORT))
    rows = [_row(network, images, fragments) for network in _candidates(base, images[:2])]
    print(
        f"{name:<16}{side:>6}{max(r.full for r in rows):>8.2f} s{max(r.first for r in rows):>7.2f} s"
        f"{max(r.skeleton for r in rows):>7.3f} s{max(r.file for r in rows):>7.3f} s"
        f"{max(r.check for r in rows):>7.2f} s"
        f"{max(r.error for r in rows):>15.1e}{max(r.full_error for r in rows):>13.1e}"
        f"{'yes' if all(r.alike for r in rows) else 'no':>7}"
    )


def _candidates(base: fx.GraphModule, images: Tensor) -> list[fx.GraphModule]:
    space = search_space(base, images, step=8)
    ranking = {group.name: torch.arange(group.units) for group in space.groups}
    plans = [tuple(level if level in group.kept else 0 for group in space.groups) for level in LEVELS]
    return [distinct(prune(base, space, plan, ranking, images), seed) for seed, plan in enumerate(plans)]


def _row(network: fx.GraphModule, images: Tensor, fragments: Fragments) -> Row:
    started = time.process_time()
    full = exported(network, (images[:1],), opset_of(SUPPORT), [INPUT], [OUTPUT])
    exporting = time.process_time() - started
    first, _ = _probe(network, images, fragments)
    again, made = _probe(network, images, fragments)
    started = time.process_time()
    data = made.file()
    writing = time.process_time() - started
    started = time.process_time()
    error = difference(network, images, answers(data, images.numpy()))
    checking = time.process_time() - started
    full_error = difference(network, images, answers(full.SerializeToString(), images.numpy()))
    return Row(exporting, first, again, writing, checking, error, full_error, _kinds(full) == _kinds(made.model))


def _probe(network: fx.GraphModule, images: Tensor, fragments: Fragments) -> tuple[float, Composition]:
    started = time.process_time()
    made = compose(network, images, fragments, SUPPORT)
    made.skeleton()
    made.size_bytes()
    return time.process_time() - started, made


def _kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


if __name__ == "__main__":
    main()
