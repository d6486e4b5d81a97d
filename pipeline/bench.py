"""One device, one base model: what is sent is measured beside the base, and nothing is measured twice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from pipeline import quarantine
from pipeline.agent import Agent, Kind
from pipeline.candidates import Builder, Built
from pipeline.cost.layers import Shrinking
from pipeline.cost.tables import CostModel, CostTable, interpolated, owners, signature, size_savings
from pipeline.doubts import why_invalid
from pipeline.errors import DeviceError, MeasureError
from pipeline.records import LEVELS, Measurement, MeasureSettings, SearchSpace
from pipeline.store import Store
from pipeline.targets import Metric

_log = logging.getLogger(__name__)

Cut = tuple[object, ...]
"""A group's signature, the group itself where no other costs like it, and the level."""

BASE = "base"
FEWEST_CUTS = 0.5
"""Share of the single cuts that must be measured; the costs of the others are taken from their neighbours."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Measures on one device and keeps every measurement in the run's store the moment it is done.

    What comes back invalid (throttled, …) more often than it is repeated is kept as well, so that nothing is measured
    twice; ``why_invalid`` tells it from figures that may be used.
    """

    agent: Agent
    store: Store
    base_probe: bytes
    """Skeleton of the base model: every candidate takes turns with it."""
    round: int = 1
    limits: Mapping[Metric, float] = field(default_factory=dict)
    """Targets as shares of the base model's figures: a candidate surely slower is not measured to the end."""

    def base(self) -> Measurement:
        """Return the base model's own figures, by its skeleton.

        Raises:
            DeviceError: they stay invalid.
        """
        return self._required(BASE, lambda settings: self.agent.measure(self.base_probe, "skeleton", settings=settings))

    def measure(self, built: Built) -> tuple[Measurement, bool]:
        """Return a candidate's figures, valid or not, and whether they were known; may be stopped early.

        Raises:
            MeasureError, DeviceError: as ``Agent.measure``.
        """
        return self._known_or(
            self._key(built.candidate.key),
            lambda settings: self._beside_base(built.probe, settings=settings, reject_above=self.limits.get("latency")),
        )

    def probe(self, key: str, skeleton: Callable[[], bytes]) -> Measurement | None:
        """Return the figures of the network named ``key``, None where they stay invalid.

        Its skeleton is asked for only if it is not known.
        """
        found, _ = self._known_or(
            self._key(key), lambda settings: self._beside_base(skeleton(), settings=settings)
        )  # fmt: skip
        if not why_invalid(found):
            return found
        _log.warning("%s: %s (%s)", key, quarantine.told(found), quarantine.explained(found))
        return None

    def whole(self, model: bytes, name: str, *, times: float = 3.0, kind: Kind = "onnx") -> Measurement:
        """Return the figures of a whole model file, measured ``times`` as long as a candidate.

        Raises:
            DeviceError: they stay invalid.
        """
        return self._required(name, lambda settings: self._beside_base(model, kind, settings=longer(settings, times)))

    @property
    def tolerant(self) -> bool:
        """Whether the device is the machine that the user works on, see :mod:`pipeline.quarantine`."""
        return self.agent.shared

    def _key(self, key: str) -> str:
        return f"{self.round}:{key}"

    def _beside_base(
        self, model: bytes, kind: Kind = "skeleton", *, settings: MeasureSettings, reject_above: float | None = None
    ) -> Measurement:
        reference: tuple[bytes, Kind] = (self.base_probe, "skeleton")
        return self.agent.measure(model, kind, reference=reference, settings=settings, reject_above=reject_above)

    def _known_or(self, key: str, measure: Callable[[MeasureSettings], Measurement]) -> tuple[Measurement, bool]:
        known = self.store.recall(key)
        if known is not None:
            return known, True
        fresh = self._taken(measure)
        self.store.remember(key, fresh)
        return fresh, False

    def _required(self, key: str, measure: Callable[[MeasureSettings], Measurement]) -> Measurement:
        """Return valid figures; invalid ones end the run, are not kept, and are taken anew when it is resumed."""
        known = self.store.recall(key)
        if known is not None:
            return known
        fresh = self._taken(measure)
        if why_invalid(fresh):
            name = self.agent.device.name
            raise DeviceError(
                f"{name}: {quarantine.told(fresh)}: {quarantine.explained(fresh)}. Without this measurement ({key}) "
                f"the run cannot go on; {quarantine.mend(name, tolerant=self.tolerant)}; then resume the run"
            )
        self.store.remember(key, fresh)
        return fresh

    def _taken(self, measure: Callable[[MeasureSettings], Measurement]) -> Measurement:
        told = self.agent.device.measure
        return quarantine.taken(
            lambda settle_s: measure(replace(told, settle_s=max(told.settle_s, settle_s))), tolerant=self.tolerant
        )


def longer(settings: MeasureSettings, times: float) -> MeasureSettings:
    """Return settings for a measurement ``times`` as long and as exact; the limits on its length move with it.

    >>> longer(MeasureSettings(min_s=10.0, max_s=60.0, timeout_s=300.0), 9.0).max_s
    180.0
    """
    min_s = settings.min_s * times
    max_s = max(settings.max_s, 2 * min_s)
    timeout_s = settings.timeout_s + max_s - settings.max_s
    return replace(settings, min_s=min_s, max_s=max_s, ci_rel=settings.ci_rel / times, timeout_s=timeout_s)


def single_cuts(space: SearchSpace) -> dict[Cut, tuple[int, ...]]:
    """Return the plans that cut one group at one level, by signature and level; equal groups share one."""
    plans: dict[Cut, tuple[int, ...]] = {}
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

    What stays invalid is left out, and its cost taken from the same group's other levels, with a warning.

    Args:
        space: what may be cut.
        bench: measures.
        builder: makes the probes.
        on_probe: hears how many are through.
        size: parameters of the network as it is cut from over the base model's; below 1 from the second round on.

    Raises:
        DeviceError: too many stay invalid to plan by.
    """
    whole = _uncut(space, bench, builder) if bench.round > 1 else None
    figures: dict[Cut, Measurement] = {}
    cuts = single_cuts(space)
    for number, (kind, levels) in enumerate(cuts.items(), 1):
        found = bench.probe(space.key(levels), lambda levels=levels: builder.probe(levels))  # type: ignore[misc]
        if found is None:
            _log.warning("a single cut stays invalid; its cost is taken from the group's other levels: %s", levels)
        else:
            figures[kind] = found
        on_probe(number)
    _require_enough(figures, cuts, bench)
    owner = owners(space)
    tables: dict[Metric, CostTable] = {"latency": _table(space, figures, whole, owner, _latency_ratio)}
    if figures and all(m.power_ratio is not None and m.energy_ratio is not None for m in figures.values()):
        tables["power"] = _table(space, figures, whole, owner, lambda m: m.power_ratio)
        tables["energy"] = _table(space, figures, whole, owner, lambda m: m.energy_ratio)
    tables["size"] = CostTable(size_savings(space) * size, owner, Shrinking.of(space, parameters=True), whole=size)
    return CostModel(tables)


def _uncut(space: SearchSpace, bench: Bench, builder: Builder) -> Measurement:
    """Return the figures of a later round's network as it is, before anything more is cut."""
    levels = tuple(0 for _ in space.groups)
    found = bench.probe(space.key(levels), lambda: builder.probe(levels))
    if found is None:
        raise _unplannable(bench, "the network that this round begins with cannot be measured validly")
    return found


def _require_enough(figures: Mapping[Cut, Measurement], cuts: Mapping[Cut, tuple[int, ...]], bench: Bench) -> None:
    if len(figures) < FEWEST_CUTS * len(cuts):
        raise _unplannable(bench, f"only {len(figures)} of {len(cuts)} single cuts could be measured validly")


def _unplannable(bench: Bench, what: str) -> DeviceError:
    name = bench.agent.device.name
    mend = quarantine.mend(name, tolerant=bench.tolerant)
    return DeviceError(f"{name}: {what}: nothing can be planned by that; {mend}; then start a new run")


def _table(
    space: SearchSpace,
    figures: Mapping[Cut, Measurement],
    whole: Measurement | None,
    owner: np.ndarray,
    ratio: Callable[[Measurement], float | None],
) -> CostTable:
    uncut = 1.0 if whole is None else _required(ratio(whole))
    savings = np.full((len(space.groups), len(LEVELS)), np.nan)
    for i, group in enumerate(space.groups):
        savings[i, 0] = 0.0
        for level in group.levels[1:]:
            found = figures.get((signature(group), i if level == 100 and _shared(space, i) else None, level))
            if found is not None:
                savings[i, LEVELS.index(level)] = uncut - _required(ratio(found))
        savings[i] = interpolated(savings[i], group)
        if 100 in group.levels and owner[i] != i:
            savings[i, LEVELS.index(100)] = 0.0  # the block's first group stands for the block
    return CostTable(savings, owner, Shrinking.of(space), whole=uncut)


def _required(ratio: float | None) -> float:
    if ratio is None:
        raise MeasureError("a single cut came back without its ratio to the base model: nothing can be planned by it")
    return ratio


def _latency_ratio(measurement: Measurement) -> float | None:
    return measurement.ratio.value if measurement.ratio else None


def _shared(space: SearchSpace, i: int) -> bool:
    """Return whether other groups go with the block around group ``i``: then its removal costs like no other's."""
    return sum(g.bypass == space.groups[i].bypass for g in space.groups) > 1
