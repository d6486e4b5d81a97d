"""Channel step: the alignment of channel counts that the device computes at once (latency staircase).

Runtimes compute channels in blocks, and where a block is begun it is paid whole: latency over width is a staircase
(Radu et al., "Performance Aware Convolutional Neural Network Channel Pruning for Embedded GPUs", 2020). The step is
found on the user's own network, with so many channels taken off all of its groups that what they save can be seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import fx

from pipeline.evaluation.cut_profiling import CutProfile
from pipeline.evaluation.device_bench import Bench
from pipeline.events import Note, Stage
from pipeline.pruning.complexity import weigh
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import cut
from pipeline.records import Group, Interval, SearchSpace
from pipeline.run.context import Context
from pipeline.store.decisions import uncut_latency
from pipeline.store.facts import CHANNEL_STEP

_KEY = "channel step"
COARSEST = 32
PAYS = 0.25
"""A cut that saves less than this share of what it saves in MACs saves nothing. On a PC with AVX-512, ResNet-20 less 4
channels everywhere: 34 % of the MACs gone, 2 % of the time; less 8: 62 % and 36 %."""
_DEVIATIONS = 1.96
"""Half a 95 % interval in standard deviations."""


def channel_step(context: Context, network: fx.GraphModule, base_skeleton: bytes) -> int:
    """Return what kept channels are rounded up to: as the inventory says, else as measured, once in a run.

    Where the run does without that measurement (``pruning: {step: processor}``), it is what the processor suggests. A
    resumed run keeps its step: plans by another one could not be applied.

    Raises:
        DeviceError, MeasureError: as ``Bench.measure_skeleton``.
    """
    asked, store = context.agent.device.channel_step, context.store
    known = store.get(CHANNEL_STEP)
    if known is None:
        known = asked or _found(context, network, base_skeleton)
        store.set(CHANNEL_STEP, known)
    elif asked not in (None, known):
        begun = f"channels stay in steps of {known}, as the run began"
        context.listen(Note(f"{begun}; the inventory says {asked} now: that takes a new run"))
    return known


def _found(context: Context, network: fx.GraphModule, base_skeleton: bytes) -> int:
    agent = context.agent
    if context.config.pruning.step == "processor":
        suggested = min(COARSEST, agent.channel_step)
        context.listen(Note(f"channels are kept in steps of {suggested}, as {agent.device.name}'s processor suggests"))
        return suggested
    context.listen(Stage("Find the board's channel step"))
    found = _measured(context, network, Bench(context.boards, context.store, base_skeleton))
    context.listen(Note(f"channels are kept in steps of {found}, as measured on {agent.device.name}"))
    return found


def found_step(saves: Callable[[int], float | None], first: int) -> int:
    """Return the finest step that pays, looked for from ``first`` on by doubling and halving.

    Args:
        saves: the time saved over the MACs saved with so many channels off every group; None: not known.
        first: what the processor's vectors suggest; it stays where no step pays (a network whose time does not go with
            its width tells nothing of the board's step).

    >>> found_step(lambda channels: 0.6 if channels >= 8 else 0.0, 16)
    8
    >>> found_step(lambda channels: 0.6 if channels >= 16 else 0.1, 8), found_step(lambda channels: 0.1, 8)
    (16, 8)
    """

    def pays(step: int) -> bool:
        saved = saves(step)
        return saved is not None and saved >= PAYS

    step = first
    while not pays(step):
        step *= 2
        if step > COARSEST:
            return first
    while first == step > 1 and pays(step // 2):
        first = step = step // 2
    return step


def without_plateaus(space: SearchSpace, profile: CutProfile) -> SearchSpace:
    """Return the space without the levels that save nothing over the next shallower one that is legal.

    A group's deepest cut and its removal always stay: whether a plan needs them, the search will tell.
    """
    return replace(space, groups=tuple(_shaped(space, profile, i) for i in range(len(space.groups))))


def saves_nothing(before: Interval, after: Interval, expected: float) -> bool:
    """Return whether a cut that takes ``expected`` of the base's MACs does not make the network faster.

    It saves less than ``PAYS`` of that, by a measurement exact enough to leave little doubt that it is not half of it.

    >>> one = Interval(1.0, 1.0, 1.0)
    >>> saves_nothing(one, Interval(0.995, 0.99, 1.0), 0.05), saves_nothing(one, Interval(0.96, 0.95, 0.97), 0.05)
    (True, False)
    >>> saves_nothing(one, Interval(0.997, 0.95, 1.04), 0.02)  # too uncertain
    False
    """
    saved = before.value - after.value
    error = math.hypot(before.half_width, after.half_width) / _DEVIATIONS
    return saved < PAYS * expected and saved + error < expected / 2


def _shaped(space: SearchSpace, profile: CutProfile, i: int) -> Group:
    group, uncut = space.groups[i], profile.latency(space, i, 0)
    cuts = [level for level in group.levels if level != 100]
    legal = {0: group.kept[0]}
    last = 0
    for level in cuts[1:]:
        before, after = (profile.latency(space, i, one) for one in (last, level))
        expected = (group.kept[last] - group.kept[level]) / group.channels * group.macs / space.macs
        expected *= uncut.value if uncut else 1.0
        if level == cuts[-1] or before is None or after is None or not saves_nothing(before, after, expected):
            legal[level] = group.kept[level]
            last = level
    return replace(group, kept=legal | {level: 0 for level in group.levels if level == 100})


def _measured(context: Context, network: fx.GraphModule, bench: Bench) -> int:
    pruning = context.config.pruning
    space = search_space(
        network, context.example, step=1, protect=pruning.protect, only=pruning.only, minimum=pruning.min_channels
    )
    whole, uncut = weigh(network, context.example).macs, uncut_latency(context.store)

    def saves(step: int) -> float | None:
        context.stop_if_requested()
        narrow = cut(network, space, _narrowed(space, step), _in_order(space), context.example)
        macs = weigh(narrow, context.example).macs
        found = bench.measure_skeleton(f"step {step}", lambda: context.format.skeleton(narrow))
        if found is None or found.ratio is None or macs == whole:
            return None
        return (1 - found.ratio.value / uncut) / (1 - macs / whole)

    return found_step(saves, min(COARSEST, context.agent.channel_step))


def _narrowed(space: SearchSpace, step: int) -> Mapping[str, int]:
    """Return the channels that groups keep less ``step``, as far as half of them stay."""
    return {
        group.name: group.width * math.ceil(max(group.channels - step, group.channels / 2) / group.width)
        for group in space.groups
    }


def _in_order(space: SearchSpace) -> Mapping[str, torch.Tensor]:
    """Return a ranking by position: which channels go does not matter to the time."""
    return {group.name: torch.arange(group.units) for group in space.groups}
