"""One device, one base model: what is sent is measured beside the base, and nothing is measured twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pipeline.agent import Agent
from pipeline.candidates import Builder, Built
from pipeline.cost.tables import CostModel, CostTable, owners, signature, size_savings
from pipeline.records import LEVELS, Measurement, SearchSpace
from pipeline.store import Store
from pipeline.targets import Metric

BASE = "base"


@dataclass(frozen=True, slots=True)
class Bench:
    """Measures on one device and keeps every measurement in the run's store the moment it arrives."""

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

    def whole(self, model: bytes, name: str) -> Measurement:
        """Return the figures of a whole model file, measured three times as long as a candidate."""
        return self._known_or(name, lambda: self._beside_base(model, "onnx", times=3.0))[0]

    def _beside_base(self, model: bytes, kind: str = "skeleton", times: float = 1.0) -> Measurement:
        settings = self.agent.device.measure
        longer = replace(settings, min_s=settings.min_s * times, ci_rel=settings.ci_rel / times)
        return self.agent.measure(model, kind, reference=(self.base_probe, "skeleton"), settings=longer)  # type: ignore[arg-type]

    def _known_or(self, key: str, measure: Callable[[], Measurement]) -> tuple[Measurement, bool]:
        known = self.store.recall(key)
        if known is not None:
            return known, True
        fresh = measure()
        self.store.remember(key, fresh)
        return fresh, False


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
    space: SearchSpace, bench: Bench, builder: Builder, on_probe: Callable[[int], None] = lambda _: None
) -> CostModel:
    """Return the board's cost tables, measured by one probe for each different single cut."""
    figures: dict[tuple[object, ...], Measurement] = {}
    for number, (kind, levels) in enumerate(single_cuts(space).items(), 1):
        figures[kind] = bench.probe(space.key(levels), lambda levels=levels: builder.probe(levels))[0]  # type: ignore[misc]
        on_probe(number)
    owner = owners(space)
    tables: dict[Metric, CostTable] = {"latency": _table(space, figures, owner, _latency_ratio)}
    if all(m.power_ratio is not None and m.energy_ratio is not None for m in figures.values()):
        tables["power"] = _table(space, figures, owner, lambda m: m.power_ratio)
        tables["energy"] = _table(space, figures, owner, lambda m: m.energy_ratio)
    tables["size"] = CostTable(_whole_blocks(size_savings(space), owner), owner)
    return CostModel(tables)


def _table(
    space: SearchSpace,
    figures: dict[tuple[object, ...], Measurement],
    owner: np.ndarray,
    ratio: Callable[[Measurement], float | None],
) -> CostTable:
    savings = np.full((len(space.groups), len(LEVELS)), np.nan)
    for i, group in enumerate(space.groups):
        savings[i, 0] = 0.0
        for level in group.levels[1:]:
            if level == 100 and owner[i] != i:
                savings[i, LEVELS.index(level)] = 0.0
                continue
            found = figures[(signature(group), i if level == 100 and _shared(space, i) else None, level)]
            savings[i, LEVELS.index(level)] = 1 - (ratio(found) or 1.0)
    return CostTable(savings, owner)


def _latency_ratio(measurement: Measurement) -> float | None:
    return measurement.ratio.value if measurement.ratio else None


def _whole_blocks(savings: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Return size savings with the whole block's parameters at its first group's level 100."""
    total = savings.copy()
    for i, first in enumerate(owner):
        if first != i:
            total[first, -1] += total[i, -1]
            total[i, -1] = 0.0
    return total


def _shared(space: SearchSpace, i: int) -> bool:
    """Return whether other groups go with the block around group ``i``: then its removal costs like no other's."""
    return sum(g.bypass == space.groups[i].bypass for g in space.groups) > 1
