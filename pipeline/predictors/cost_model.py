"""Cost model of plans on a device: measured single-cut savings, corrected by measured candidates.

A single cut's saving (one group at one level, the rest whole) is measured by a skeleton. It is spread over the layers
that shrink with the group, by their weight. Savings in different layers add up; in one layer a group takes a share of
what it reads or of what it makes, because a layer's time goes with the product of both. What error is left is learnt
from the candidates measured so far, and so is how large it still is (``residuals``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import InitVar, dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.measurement.intervals import NORMAL_95
from pipeline.predictors.layer_costs import Layers, Shrinking
from pipeline.predictors.residuals import Correction
from pipeline.records import LEVELS, Group, SearchSpace
from pipeline.targets import Metric

Array = NDArray[np.float64]

_LEAST_COST = 0.01
"""Of the base model: no network costs nothing, whatever a correction says."""
_REMOVED = len(LEVELS) - 1


def signature(group: Group) -> tuple[object, ...]:
    """Return what makes two groups cost the same: one skeleton serves all groups with an equal signature."""
    return (group.channels, group.macs, group.parameters, group.kernel, group.stride, group.bypass is not None)


def size_savings(space: SearchSpace) -> Array:
    """Return the share of the parameters that each group saves at each level, (groups, levels)."""
    savings = np.array([[_size_saving(g, level) / space.parameters for level in LEVELS] for g in space.groups])
    return with_blocks(savings, space, {name: n / space.parameters for name, n in space.layer_parameters.items()})


def with_blocks(savings: Array, space: SearchSpace, layers: Mapping[str, float]) -> Array:
    """Return savings, (groups, levels), with what a whole block saves at level 100 of its first group, 0 at the others.

    Args:
        savings: at level 100, what each group's own channels save.
        layers: what each layer saves if it goes, by which a block with others within it is known: groups share layers.
    """
    owner, total = owners(space), savings.copy()
    for i, first in enumerate(owner):
        if first != i:
            total[first, _REMOVED] += total[i, _REMOVED]
            total[i, _REMOVED] = 0.0
    for first in set(within(owner, parents(space)).values()):
        gone = space.blocks[space.groups[first].bypass or ""]
        total[first, _REMOVED] = sum(layers.get(layer, 0.0) for layer in gone)
    return total


def _size_saving(group: Group, level: int) -> float:
    return (1 - group.kept[level] / group.channels) * group.parameters if level in group.kept else np.nan


def owners(space: SearchSpace) -> NDArray[np.int64]:
    """Return for each group the first group of its block, whose level decides whether the block goes; else itself."""
    first: dict[str, int] = {}
    return np.array([first.setdefault(g.bypass, i) if g.bypass else i for i, g in enumerate(space.groups)])


def parents(space: SearchSpace) -> NDArray[np.int64]:
    """Return for each group the group whose removal takes it along, itself where none does.

    That is its block's first group, and of that one the first group of the next block around it, which stands before it
    in the space: so whoever decides group by group knows of each whether it is gone already.
    """
    found = owners(space)
    first = {group.bypass: i for i, group in reversed(list(enumerate(space.groups))) if group.bypass in space.blocks}
    for outer in sorted(first, key=lambda block: -len(space.blocks[block or ""])):
        for inner in (space.inside(outer or "") - {outer}) & first.keys():
            found[first[inner]] = first[outer]  # the smallest block around it has the last word
    return found


def within(owner: NDArray[np.int64], parent: NDArray[np.int64]) -> dict[int, int]:
    """Return for the first group of each block that lies within another the first group of that one."""
    return {i: int(around) for i, around in enumerate(parent) if owner[i] == i != around}


def whole_blocks(
    levels: NDArray[np.int64], owner: NDArray[np.int64], parent: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Return level indices (plans, groups) with a removed block's groups all removed, whichever of them was said to be.

    Args:
        levels: of all groups, or of the first ones.
        owner: see ``owners``.
        parent: see ``parents``; None: no block lies within another.

    >>> whole_blocks(np.array([[0, 4, 1]]), np.array([0, 0, 2]))
    array([[4, 4, 1]])
    >>> whole_blocks(np.array([[0, 4, 1], [1, 4, 4]]), np.array([0, 1, 0]), np.array([0, 0, 0]))
    array([[0, 4, 1],
           [4, 4, 4]])
    """
    takes, around = owner[:, None] == owner, owner
    while parent is not None and (parent[around] != around).any():
        around = parent[around]
        takes = takes | (owner[:, None] == around)
    gone = (levels == _REMOVED).astype(np.float32) @ takes.astype(np.float32)  # BLAS knows floats alone
    return np.where(gone > 0, _REMOVED, levels)


def goes_along(levels: NDArray[np.int64], parent: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which groups go only because a block around them goes, (plans, groups), of ``whole_blocks``."""
    along: NDArray[np.bool_] = (levels[:, parent] == _REMOVED) & (parent != np.arange(len(parent)))
    return along


def interpolated(savings: Array, group: Group) -> Array:
    """Return one group's savings with those of legal levels that are not known (nan) taken from their neighbours.

    Between known levels by the share of channels that goes; beyond the last known one in proportion to it. A removed
    block saves more than its channels, so what level 100 saves says nothing of the others, and in its place, where it
    is not known, stands the least that it can save.

    >>> group = Group(name="g", layers=(), channels=8, kept={0: 8, 25: 6, 50: 4, 75: 2}, macs=1, parameters=1)
    >>> interpolated(np.array([0.0, 0.1, np.nan, np.nan, np.nan]), group).round(3).tolist()
    [0.0, 0.1, 0.2, 0.3, nan]
    """
    filled = savings.copy()
    gone = {LEVELS.index(level): 1 - group.kept[level] / group.channels for level in group.levels}
    known = [i for i in gone if np.isfinite(savings[i]) and i != _REMOVED]
    deepest = known[-1]
    slope = savings[deepest] / gone[deepest] if gone[deepest] else 0.0
    for i in gone:
        if gone[i] > gone[deepest] and np.isnan(savings[i]):
            filled[i] = slope * gone[i]
        elif np.isnan(savings[i]):
            filled[i] = np.interp(gone[i], [gone[k] for k in known], savings[known])
    return filled


@dataclass(slots=True)
class CostTable:
    """Savings of one metric, (groups, levels) as shares of the base model's figure; nan where a level is not legal.

    At level 100 the first group of a block carries what the whole block saves; what the others say there is not read.
    """

    savings: Array
    owner: NDArray[np.int64]
    shrinking: InitVar[Shrinking | None] = None
    """Which layers shrink with which group; None: no two groups share a layer."""
    whole: float = 1.0
    """Cost of the network with nothing cut; below 1 from the second round on, whose network was cut before."""
    parent: NDArray[np.int64] | None = None
    """See ``parents``; None: no block lies within another."""
    correction: Correction = field(init=False)
    shared: Layers = field(init=False)

    def __post_init__(self, shrinking: Shrinking | None) -> None:
        """Spread the savings over the layers."""
        if self.parent is None:
            self.parent = self.owner
        self.shared = Layers.of(
            self.savings, self.owner, shrinking or Shrinking.apart(len(self.savings)), within(self.owner, self.parent)
        )
        self.correction = Correction(self.whole)

    def predict(self, levels: NDArray[np.int64]) -> Array:
        """Return the predicted cost relative to the base, (plans,), of level indices (plans, groups)."""
        plans = self._whole(levels)
        expected = self.cost(self.shared.taken_by(plans)) + self.correction.departure(plans)
        return np.maximum(expected, _LEAST_COST)

    def departure_of_pairs(self, rest: NDArray[np.int64], own: NDArray[np.int64], at: NDArray[np.bool_]) -> Array:
        """Return how far all plans put together of two parts are predicted to be off ``cost``, (plans, levels).

        Args:
            rest: level indices (plans, groups), read where ``at`` is False.
            own: (levels, groups), read where it is True.
            at: (groups,): whether a block goes has to be the same as in what it is read with.
        """
        return self.correction.departure_of_pairs(self._whole(rest), self._whole(own), at)

    def uncertainty(self, levels: NDArray[np.int64]) -> Array:
        """Return the standard deviation of plans' measured cost, as a share of the predicted one, (plans,)."""
        deviation: Array = self.correction.deviation(self._whole(levels)) / self.predict(levels)
        return deviation

    def interval(self, levels: NDArray[np.int64]) -> tuple[Array, Array]:
        """Return what plans' measured costs lie between with a probability of 95 %, (plans,) each."""
        cost, width = self.predict(levels), NORMAL_95 * self.uncertainty(levels)
        return cost * (1 - width), cost * (1 + width)

    def taken(self, levels: NDArray[np.int64]) -> Array:
        """Return what the levels of the first groups of plans take of layers, (plans, 2, layers)."""
        return self.shared.taken_by(self._whole(levels))

    def cost(self, taken: Array) -> Array:
        """Return the predicted cost of networks of whose layers so much is taken, (..., 2, layers).

        By the line alone: more taken never costs more, on which rests what is within reach.
        """
        return self.correction.line(self.whole - self.shared.saved(taken))

    def learn(self, levels: Sequence[int], measured: float, deviation: float = 0.0) -> None:
        """Correct the table by one measured candidate and the standard deviation of its measurement."""
        plan = self._whole(np.array([levels]))
        added_up = self.whole - float(self.shared.saved(self.shared.taken_by(plan))[0])
        self.correction.learn(plan[0].tolist(), added_up, measured, deviation)

    def _whole(self, levels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return plans, of the first groups or of all, with all groups of removed blocks removed."""
        begun = levels.shape[1]
        return whole_blocks(levels, self.owner[:begun], None if self.parent is None else self.parent[:begun])


@dataclass(slots=True)
class CostModel:
    """All metrics of one board: latency and size, and energy and power where a sensor measures.

    With a target of density there are none: weights that become zero change no metric.
    """

    tables: Mapping[Metric, CostTable]

    def predict(self, levels: NDArray[np.int64], metrics: Collection[Metric] | None = None) -> dict[Metric, Array]:
        """Return metrics' predicted costs relative to the base, (plans,), of level indices (plans, groups).

        Args:
            metrics: those that are wanted, where the board has them; None: all.
        """
        wanted = {m: table for m, table in self.tables.items() if metrics is None or m in metrics}
        return {metric: table.predict(levels) for metric, table in wanted.items()}

    def split(self, metric: Metric, levels: Sequence[int], measured: float) -> list[float]:
        """Return a measured plan's cost once it was cut up to each group, (groups,): shares as single cuts save.

        Args:
            metric: the board has it.
            levels: indices, (groups,).
            measured: of the whole plan, relative to the base.
        """
        savings = np.nan_to_num(self.tables[metric].savings)[np.arange(len(levels)), list(levels)]
        savings = np.maximum(savings, 0.0)
        shares = savings if savings.sum() > 0 else np.asarray(levels, dtype=float)
        through = np.cumsum(shares) / (shares.sum() or 1.0)
        after: list[float] = (1 + through * (measured - 1)).tolist()
        return after

    def uncertainty(self, levels: NDArray[np.int64]) -> dict[Metric, Array]:
        """Return each metric's standard deviation as a share of what ``predict`` says, (plans,)."""
        return {metric: table.uncertainty(levels) for metric, table in self.tables.items()}

    def learn(
        self, levels: Sequence[int], measured: Mapping[Metric, float], deviations: Mapping[Metric, float] | None = None
    ) -> None:
        """Correct each metric's table by one measured candidate.

        Args:
            deviations: standard deviations of the measured shares, where they are known.
        """
        for metric, value in measured.items():
            if metric in self.tables:
                self.tables[metric].learn(levels, value, (deviations or {}).get(metric, 0.0))
