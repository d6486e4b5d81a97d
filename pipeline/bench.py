"""One device, one base model: what is sent is measured beside the base, and nothing is measured twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pipeline.agent import Agent, Kind
from pipeline.candidates import Builder, Built
from pipeline.cost.tables import CostModel, CostTable, owners, signature, size_savings
from pipeline.errors import MeasureError
from pipeline.pooling import less_doubtful
from pipeline.records import LEVELS, Measurement, MeasureSettings, SearchSpace
from pipeline.store import Store
from pipeline.targets import Metric

BASE = "base"


@dataclass(frozen=True, slots=True)
class Bench:
    """Measures on one device and keeps every measurement in the run's store the moment it is done.

    Figures that come with a doubt (throttled, noisy, …) are taken once more.
    """

    agent: Agent
    store: Store
    base_probe: bytes
    """Skeleton of the base model: every candidate takes turns with it."""
    round: int = 1

    def base(self) -> Measurement:
        """Return the base model's own figures, by its skeleton."""
        return self._known_or(BASE, lambda: self.agent.measure(self.base_probe, "skeleton"))[0]

    def measure(self, built: Built) -> tuple[Measurement, bool]:
        """Return a candidate's figures and whether they were known; raises MeasureError or DeviceError."""
        return self.probe(built.candidate.key, lambda: built.probe)

    def probe(self, key: str, skeleton: Callable[[], bytes]) -> tuple[Measurement, bool]:
        """Return the figures of the network named ``key``, whose skeleton is asked for only if it is not known."""
        return self._known_or(f"{self.round}:{key}", lambda: self._beside_base(skeleton()))

    def whole(self, model: bytes, name: str, *, times: float = 3.0) -> Measurement:
        """Return the figures of a whole model file, measured ``times`` as long as a candidate."""
        return self._known_or(name, lambda: self._beside_base(model, "onnx", times=times))[0]

    def _beside_base(self, model: bytes, kind: Kind = "skeleton", times: float = 1.0) -> Measurement:
        settings = longer(self.agent.device.measure, times)
        return self.agent.measure(model, kind, reference=(self.base_probe, "skeleton"), settings=settings)

    def _known_or(self, key: str, measure: Callable[[], Measurement]) -> tuple[Measurement, bool]:
        known = self.store.recall(key)
        if known is not None:
            return known, True
        fresh = measure()
        if fresh.flags:
            fresh = less_doubtful(fresh, measure())
        self.store.remember(key, fresh)
        return fresh, False


def longer(settings: MeasureSettings, times: float) -> MeasureSettings:
    """Return settings for a measurement ``times`` as long and as exact; the limits on its length move with it.

    >>> longer(MeasureSettings(min_s=10.0, max_s=60.0, timeout_s=300.0), 9.0).max_s
    180.0
    """
    min_s = settings.min_s * times
    max_s = max(settings.max_s, 2 * min_s)
    timeout_s = settings.timeout_s + max_s - settings.max_s
    return replace(settings, min_s=min_s, max_s=max_s, ci_rel=settings.ci_rel / times, timeout_s=timeout_s)


def single_cuts(space: SearchSpace) -> dict[tuple[object, ...], tuple[int, ...]]:
    """Return the plans that cut one group at one level, by signature and level; equal groups share one."""
    plans: dict[tuple[object, ...], tuple[int, ...]] = {}
    owner = owners(space)
    for i, group in enumerate(space.groups):
        for level in group.levels[1:]:
            if level == 100 and owner[i] != i:
                continue  # the block's first group stands for the block
            levels = tuple(level if j == i else 0 for j in range(len(space.groups)))
            plans.setdefault((signature(group), i if level == 100 and _shared(space, i) else None, level), levels)
    return plans


def cost_model(
    space: SearchSpace,
    bench: Bench,
    builder: Builder,
    on_probe: Callable[[int], None] = lambda _: None,
    *,
    size: float = 1.0,
) -> CostModel:
    """Return the board's cost tables, measured by one probe for each different single cut.

    Args:
        size: parameters of the network as it is cut from over the base model's; below 1 from the second round on.
    """
    uncut = tuple(0 for _ in space.groups)
    whole = bench.probe(space.key(uncut), lambda: builder.probe(uncut))[0] if bench.round > 1 else None
    figures: dict[tuple[object, ...], Measurement] = {}
    for number, (kind, levels) in enumerate(single_cuts(space).items(), 1):
        figures[kind] = bench.probe(space.key(levels), lambda levels=levels: builder.probe(levels))[0]  # type: ignore[misc]
        on_probe(number)
    owner = owners(space)
    tables: dict[Metric, CostTable] = {"latency": _table(space, figures, whole, owner, _latency_ratio)}
    if all(m.power_ratio is not None and m.energy_ratio is not None for m in figures.values()):
        tables["power"] = _table(space, figures, whole, owner, lambda m: m.power_ratio)
        tables["energy"] = _table(space, figures, whole, owner, lambda m: m.energy_ratio)
    tables["size"] = CostTable(size_savings(space) * size, owner, whole=size)
    return CostModel(tables)


def _table(
    space: SearchSpace,
    figures: dict[tuple[object, ...], Measurement],
    whole: Measurement | None,
    owner: np.ndarray,
    ratio: Callable[[Measurement], float | None],
) -> CostTable:
    uncut = 1.0 if whole is None else _required(ratio(whole))
    savings = np.full((len(space.groups), len(LEVELS)), np.nan)
    for i, group in enumerate(space.groups):
        savings[i, 0] = 0.0
        for level in group.levels[1:]:
            if level == 100 and owner[i] != i:
                savings[i, LEVELS.index(level)] = 0.0
                continue
            found = figures[(signature(group), i if level == 100 and _shared(space, i) else None, level)]
            savings[i, LEVELS.index(level)] = uncut - _required(ratio(found))
    return CostTable(savings, owner, whole=uncut)


def _required(ratio: float | None) -> float:
    if ratio is None:
        raise MeasureError("a single cut came back without its ratio to the base model: nothing can be planned by it")
    return ratio


def _latency_ratio(measurement: Measurement) -> float | None:
    return measurement.ratio.value if measurement.ratio else None


def _shared(space: SearchSpace, i: int) -> bool:
    """Return whether other groups go with the block around group ``i``: then its removal costs like no other's."""
    return sum(g.bypass == space.groups[i].bypass for g in space.groups) > 1
