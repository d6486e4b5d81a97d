"""Per-group sensitivity on the device: one group pruned at a time, as a look-up table of savings."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.errors import DeviceError, MeasureError
from pipeline.evaluation.candidate_builder import Builder
from pipeline.evaluation.device_bench import Bench, recalled
from pipeline.measurement import retries
from pipeline.predictors.cost_model import CostModel, CostTable, interpolated, owners, parents, signature, size_savings
from pipeline.predictors.layer_costs import Shrinking
from pipeline.records import LEVELS, Interval, Measurement, SearchSpace
from pipeline.store import Store
from pipeline.targets import Metric

_log = logging.getLogger(__name__)

Cut = tuple[object, ...]
"""A group's signature, the group itself where no other costs like it, and the level."""

FEWEST_CUTS = 0.5
"""Share of the single cuts that must be measured; the costs of the others are taken from their neighbours."""


@dataclass(frozen=True, slots=True)
class CutProfile:
    """What the single cuts of a space were measured at."""

    figures: Mapping[Cut, Measurement]
    """Without those that stayed invalid."""
    uncut: Measurement | None = None
    """The network before anything is cut, where it is another than the base: in a later round, or in INT8."""

    def latency(self, space: SearchSpace, group: int, level: int) -> Interval | None:
        """Return the latency over the base model's of a network with one group cut; None: not known."""
        found = self.uncut if level == 0 else self.figures.get(cut_of(space, group, level))
        return found.ratio if found is not None else Interval(1.0, 1.0, 1.0) if level == 0 else None


def cut_of(space: SearchSpace, group: int, level: int) -> Cut:
    """Return what names the single cut of a group: groups that cost the same have it in common."""
    return signature(space.groups[group]), group if level == 100 and _shared(space, group) else None, level


def single_cuts(space: SearchSpace) -> dict[Cut, tuple[int, ...]]:
    """Return the plans that cut one group at one level, by signature and level; equal groups share one."""
    plans: dict[Cut, tuple[int, ...]] = {}
    for kind, levels in _each_cut(space):
        plans.setdefault(kind, levels)
    return plans


def measure_cuts(
    space: SearchSpace,
    bench: Bench,
    builder: Builder,
    on_measured: Callable[[int], None] = lambda _: None,
    *,
    is_base: bool = True,
) -> CutProfile:
    """Measure one skeleton for each different single cut; those that stay invalid are left out, with a warning.

    Args:
        space: what may be cut.
        bench: measures.
        builder: makes the skeletons.
        on_measured: hears how many are through.
        is_base: the network that is cut from is the base model, in the first round; False: in another precision.

    Raises:
        DeviceError: too many stay invalid to plan by.
    """
    whole = None if is_base and bench.round == 1 else _uncut(space, bench, builder)
    figures: dict[Cut, Measurement] = {}
    cuts = single_cuts(space)
    through = itertools.count(1)

    def measure(kind: Cut, levels: tuple[int, ...]) -> None:
        found = bench.measure_skeleton(space.key(levels), lambda: builder.skeleton(levels))
        if found is None:
            _log.warning("a single cut stays invalid; its cost is taken from the group's other levels: %s", levels)
        else:
            figures[kind] = found
        on_measured(next(through))

    bench.boards.at_once([partial(measure, kind, levels) for kind, levels in cuts.items()])
    _require_enough(figures, cuts, bench)
    return CutProfile(figures, whole)


def recalled_cuts(space: SearchSpace, store: Store, number: int, *, is_base: bool = True) -> CutProfile:
    """Return what a run has measured of a round's single cuts, of any of the groups that cost the same."""
    uncut = recalled(store, number, space.key(tuple(0 for _ in space.groups))) if number > 1 or not is_base else None
    figures: dict[Cut, Measurement] = {}
    for kind, levels in _each_cut(space):
        if kind not in figures and (found := recalled(store, number, space.key(levels))) is not None:
            figures[kind] = found
    return CutProfile(figures, uncut)


def cost_tables(space: SearchSpace, profile: CutProfile, *, size: float = 1.0) -> CostModel:
    """Return the board's cost tables; what was not measured is taken from the same group's other levels.

    Args:
        space: what may be cut; levels may have been masked since it was measured.
        profile: the single cuts.
        size: of the network as it is cut from over the base model's; below 1 from the second round on, and in INT8.
    """
    owner, parent, figures = owners(space), parents(space), profile.figures
    tables: dict[Metric, CostTable] = {"latency": _table(space, profile, owner, parent, lambda m: m.ratio)}
    if figures and all(m.power_ratio is not None and m.energy_ratio is not None for m in figures.values()):
        tables["power"] = _table(space, profile, owner, parent, lambda m: m.power_ratio)
        tables["energy"] = _table(space, profile, owner, parent, lambda m: m.energy_ratio)
    tables["size"] = CostTable(
        size_savings(space) * size, owner, Shrinking.of(space, parameters=True), whole=size, parent=parent
    )
    return CostModel(tables)


def _each_cut(space: SearchSpace) -> Iterator[tuple[Cut, tuple[int, ...]]]:
    """Yield each single cut of each group and the plan that makes it."""
    owner = owners(space)
    for i, group in enumerate(space.groups):
        for level in group.levels[1:]:
            if level == 100 and owner[i] != i:
                continue  # the block's first group stands for the block
            yield cut_of(space, i, level), tuple(level if j == i else 0 for j in range(len(space.groups)))


def _uncut(space: SearchSpace, bench: Bench, builder: Builder) -> Measurement:
    """Return the figures of the network that is cut from, as it is."""
    levels = tuple(0 for _ in space.groups)
    found = bench.measure_skeleton(space.key(levels), lambda: builder.skeleton(levels))
    if found is None:
        raise _unplannable(bench, "the network that this round begins with cannot be measured validly")
    return found


def _require_enough(figures: Mapping[Cut, Measurement], cuts: Mapping[Cut, tuple[int, ...]], bench: Bench) -> None:
    if len(figures) < FEWEST_CUTS * len(cuts):
        raise _unplannable(bench, f"only {len(figures)} of {len(cuts)} single cuts could be measured validly")


def _unplannable(bench: Bench, what: str) -> DeviceError:
    name = bench.agent.device.name
    fix = retries.fix_hint(name, tolerant=bench.tolerant)
    return DeviceError(f"{name}: {what}: nothing can be planned by that; {fix}; then start a new run")


def _table(
    space: SearchSpace,
    profile: CutProfile,
    owner: np.ndarray,
    parent: np.ndarray,
    ratio: Callable[[Measurement], Interval | None],
) -> CostTable:
    uncut = 1.0 if profile.uncut is None else _required(ratio(profile.uncut))
    savings = np.full((len(space.groups), len(LEVELS)), np.nan)
    for i, group in enumerate(space.groups):
        savings[i, 0] = 0.0
        for level in group.levels[1:]:
            found = profile.figures.get(cut_of(space, i, level))
            if found is not None:
                savings[i, LEVELS.index(level)] = uncut - _required(ratio(found))
        savings[i] = interpolated(savings[i], group)
        if 100 in group.levels and owner[i] != i:
            savings[i, LEVELS.index(100)] = 0.0  # the block's first group stands for the block
    return CostTable(savings, owner, Shrinking.of(space), whole=uncut, parent=parent)


def _required(ratio: Interval | None) -> float:
    if ratio is None:
        raise MeasureError("a single cut came back without its ratio to the base model: nothing can be planned by it")
    return ratio.value


def _shared(space: SearchSpace, i: int) -> bool:
    """Return whether other groups go with the block around group ``i``: then its removal costs like no other's."""
    gone = space.inside(space.groups[i].bypass or "")
    return sum(g.bypass in gone for g in space.groups) > 1
