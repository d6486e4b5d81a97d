"""How fast is a pass of the final training, beside its floor: forward and backward of the pruned network alone?

    python benchmarks/training_speed.py --data cifar10:DIR --weights FILE [--model resnet20 --level 50 --threads 1]

Ways take turns within one process, so that whatever else the machine does slows all of them alike; the median of a
step's processor time (of all threads, in which other processes have no part) is printed, its fastest time on the clock,
and what a pass over the training split takes by that. Each row adds to the one before:
the teacher asked in every step, as it was; its batch norm folded; its answers known. Float32 is the same without half
precision, where the processor has that. The last rows are the parts of a step that are neither network.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from _common.halved import Halved, halved
from _common.results import table
from _common.testbed import some
from torch import Tensor, nn
from torch.nn import functional

from pipeline.data import DataSet, Split, load_data
from pipeline.structures import Inputs, answer
from pipeline.training.accelerator import Accelerator, channels_last, cpu, keep_freed_memory
from pipeline.training.settings import FineTuning
from pipeline.training.trainer import fine_tune

Times = tuple[float, float]
"""Processor time of all threads, and time on the clock, in seconds."""
_BATCHES = 2
"""Of one pass in this trial: answers are known from its second pass on."""


class Unfolded(nn.Module):
    """A teacher that is asked as it is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's answers."""
        answers: Tensor = self.network(x)
        return answers


def main() -> None:
    args = _arguments()
    keep_freed_memory()
    torch.set_num_threads(args.threads)
    data = load_data(args.data, seed=0)
    nets = halved(args.model, args.weights, data, level=args.level)
    steps = _in_turns(_ways(nets, data, args), args.rounds)
    print(f"{args.model}, every group cut by {args.level} %, {args.threads} thread(s), batches of {args.batch_size}\n")
    header = ("", "CPU ms a step", "over floor", "ms, fastest", "images/s", "s a pass")
    floor = statistics.median(cpu_s for cpu_s, _ in next(iter(steps.values())))
    print(table(header, [_row(name, step, floor, data, args) for name, step in steps.items()]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="as for pipeline run")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--level", type=int, default=50, help="percent of each group's channels that go")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10, help="turns that each way takes")
    return parser.parse_args()


def _now() -> Times:
    return time.process_time(), time.perf_counter()


def _since(start: Times) -> Times:
    return time.process_time() - start[0], time.perf_counter() - start[1]


def _ways(nets: Halved, data: DataSet, args: argparse.Namespace) -> Mapping[str, Callable[[], list[Times]]]:
    """Return by name what takes turns: each returns the seconds of a few steps."""
    images = some(data.train, _BATCHES * args.batch_size, 0)
    x, y = next(images.batches(args.batch_size))
    half, full = cpu(), replace(cpu(), half=None)
    asked = FineTuning(batch_size=args.batch_size, epochs=2, learning_rate=1e-4)
    known = replace(asked, teacher_views=1)

    def training(teacher: nn.Module | None, settings: FineTuning, on: Accelerator) -> list[Times]:
        ends: list[Times] = []
        fine_tune(
            nets.cut, images, settings, teacher=teacher, accelerator=on,
            on_step=lambda *_: ends.append(_now()),
        )  # fmt: skip
        pairs = zip(ends[_BATCHES - 1 :], ends[_BATCHES:], strict=False)
        return [(after[0] - before[0], after[1] - before[1]) for before, after in pairs]

    plain = Unfolded(nets.base)
    ways = {
        "floor: forward and backward alone": partial(_forward_and_backward, nets.cut, x, y, half),
        "before: teacher asked": partial(training, plain, asked, half),
        "+ its batch norm folded": partial(training, nets.base, asked, half),
        "+ its answers known": partial(training, nets.base, known, half),
        "no teacher": partial(training, None, asked, half),
        "one batch, shifted and mirrored": partial(_one_batch, images, args.batch_size),
    }
    if half.half is not None:
        ways |= {
            "float32: floor": partial(_forward_and_backward, nets.cut, x, y, full),
            "float32: teacher asked": partial(training, plain, asked, full),
            "float32: its answers known": partial(training, nets.base, known, full),
        }
    return ways


def _in_turns(ways: Mapping[str, Callable[[], list[Times]]], rounds: int) -> Mapping[str, list[Times]]:
    for way in ways.values():
        way()  # the first one makes ready
    found: dict[str, list[Times]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name] += way()
    return found


def _forward_and_backward(model: nn.Module, x: Inputs, y: Tensor, on: Accelerator) -> list[Times]:
    channels_last(model).train()
    start = _now()
    with on.autocast():
        scores: Tensor = answer(model, x)
    torch.autograd.backward(functional.cross_entropy(scores.float(), y))
    model.zero_grad(set_to_none=True)
    return [_since(start)]


def _one_batch(images: Split, size: int) -> list[Times]:
    batches = images.batches(size, generator=torch.Generator(), augment=True)
    start = _now()
    next(batches)
    return [_since(start)]


def _row(name: str, steps: list[Times], floor: float, data: DataSet, args: argparse.Namespace) -> tuple[str, ...]:
    cpu_s, fastest = statistics.median(step[0] for step in steps), min(step[1] for step in steps)
    return (
        name, f"{1e3 * cpu_s:.1f}", f"{cpu_s / floor:.2f}x", f"{1e3 * fastest:.1f}",
        f"{args.batch_size / fastest:,.0f}", f"{len(data.train) / args.batch_size * fastest:.1f}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
