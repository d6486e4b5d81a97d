"""Device bench: measures candidates beside the base model, each structure once."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from pipeline import serialization
from pipeline.devices.agent_client import Agent
from pipeline.errors import DeviceError, MeasureError
from pipeline.evaluation.candidate_builder import Built
from pipeline.export.format import Skeleton
from pipeline.measurement import retries
from pipeline.measurement.between_processes import Spread, between_processes
from pipeline.measurement.calibration import Calibration
from pipeline.measurement.combining import combined
from pipeline.measurement.feasibility import MEASURED, ratios, with_ratios
from pipeline.measurement.validity import invalid, why_invalid
from pipeline.records import Measurement, MeasureSettings
from pipeline.store import Store
from pipeline.store.facts import CALIBRATION
from pipeline.targets import Metric

_log = logging.getLogger(__name__)

BASE = "base"
WHOLE = 3.0
"""What is measured in several processes takes so many times as long together as a candidate in the search."""
_ROOM = 3.0
"""Standard deviations between processes by which a candidate has to be too slow to be stopped early."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Measures on one device and keeps every measurement in the run's store the moment it is done.

    Sound figures of one network hold for all of its structure: whichever of two equal blocks is gone, whichever weights
    are zero, the device computes the same.

    What comes back invalid (throttled, …) more often than it is repeated is kept as well, so that nothing is measured
    twice; ``why_invalid`` tells it from figures that may be used.
    """

    agent: Agent
    store: Store
    base_skeleton: bytes
    """Skeleton of the base model: every candidate takes turns with it."""
    round: int = 1
    limits: Mapping[Metric, float] = field(default_factory=dict)
    """Targets as shares of the base model's figures: a candidate surely slower is not measured to the end."""

    def base(self) -> Measurement:
        """Return the base model's own figures against itself, by its skeleton, in several processes.

        Each is measured as a candidate is: what processes differ by beyond that is in candidates' intervals.

        Raises:
            DeviceError: they stay invalid.
        """
        each = self.agent.device.measure
        return self._required(BASE, lambda settings: self._beside_base(self.base_skeleton, settings=settings), each)

    @property
    def spreads(self) -> dict[Metric, Spread]:
        """How the board's ratios differ from process to process; absent: nobody has measured it.

        By the base model against itself and, of latency, by the calibration that held for the device when the run
        began, unless the two contradict each other: that one may be of a network that is less, or more, alike.
        """
        processes = self.agent.device.measure.processes
        parts = [self.store.recall(_process(BASE, number)) for number in range(1, processes + 1)]
        known = [ratios(part) for part in parts if part is not None]
        found = {metric: between_processes([part[metric] for part in known if metric in part]) for metric in MEASURED}
        spreads = {metric: spread for metric, spread in found.items() if spread is not None}
        if "latency" in spreads and (calibrated := self.store.get(CALIBRATION)):
            of_device = serialization.load(Calibration, calibrated).spread
            if spreads["latency"].agrees(of_device):
                spreads["latency"] += of_device
        return spreads

    def measure(self, built: Built) -> tuple[Measurement, bool]:
        """Return a candidate's figures, valid or not, and whether they were known; may be stopped early.

        Raises:
            MeasureError, DeviceError: as ``Agent.measure``.
        """
        limit, spread = self.limits.get("latency"), self.spreads.get("latency")
        room = math.exp(_ROOM * spread.between) if spread else 1.0
        return self._figures(built.candidate.key, lambda: built.skeleton, limit * room if limit else None)

    def measure_skeleton(self, key: str, skeleton: Callable[[], Skeleton]) -> Measurement | None:
        """Return the figures of the network named ``key``, None where they stay invalid.

        Its skeleton is asked for only if it is not known.
        """
        found, _ = self._figures(key, skeleton)
        if not why_invalid(found):
            return found
        _log.warning("%s: %s (%s)", key, retries.describe_quarantine(found), retries.explain_flags(found))
        return None

    def remeasure(self, skeleton: Skeleton) -> Measurement:
        """Return a candidate's figures, valid or not, measured anew in several processes.

        Raises:
            MeasureError, DeviceError: as ``Agent.measure``.
        """
        key = self._key(f"structure {skeleton.structure} again")
        each = one_process_of(longer(self.agent.device.measure, WHOLE))
        found = self._several(key, lambda settings: self._beside_base(skeleton.data, settings=settings), each)
        require_int8(found, skeleton.int8_operators, self.agent.device.name)
        return found

    def compare(self, one: Skeleton, other: Skeleton) -> Measurement:
        """Return a network's figures, valid or not, in turns with another instead of the base model, alike exact.

        Raises:
            MeasureError, DeviceError: as ``Agent.measure``.
        """
        key = self._key(f"structure {one.structure} beside {other.structure}")
        each = one_process_of(longer(self.agent.device.measure, WHOLE))
        reference = (other.data, "skeleton")
        found = self._several(
            key, lambda settings: self.agent.measure(one.data, "skeleton", reference=reference, settings=settings), each
        )
        require_int8(found, one.int8_operators, self.agent.device.name)
        return found

    def measure_file(
        self, model: bytes, name: str, *, looks: int = 1, times: float = WHOLE, kind: str = "onnx"
    ) -> Measurement:
        """Return the figures of a whole model file, measured in several processes.

        Args:
            model: the file.
            name: what its figures are kept by.
            looks: how often that is done; what was measured in earlier ones counts as well.
            times: how long one look is, over a candidate in the search.
            kind: how its format's files' names end.

        Raises:
            DeviceError: they stay invalid.
        """
        each = one_process_of(longer(self.agent.device.measure, times))
        return self._required(
            name, lambda settings: self._beside_base(model, kind, settings=settings), each, looks=looks
        )

    @property
    def tolerant(self) -> bool:
        """Whether the device is the machine that the user works on, see :mod:`pipeline.measurement.retries`."""
        return self.agent.shared

    def _key(self, key: str) -> str:
        return _key(self.round, key)

    def _figures(
        self, key: str, skeleton: Callable[[], Skeleton], reject_above: float | None = None
    ) -> tuple[Measurement, bool]:
        """Return a network's figures, and whether they were known: its own, or sound ones of its structure."""
        own = self._key(key)
        if (known := self.store.recall(own)) is not None:
            return known, True
        made = skeleton()
        structure = self._key(f"structure {made.structure}")
        alike = self.store.recall(structure)
        if alike is not None and (reject_above is not None or not alike.early):
            self.store.remember(own, alike)
            return alike, True
        fresh = self._widened(
            self._measure_with_retries(
                own, lambda settings: self._beside_base(made.data, settings=settings, reject_above=reject_above)
            )
        )
        require_int8(fresh, made.int8_operators, self.agent.device.name)
        self.store.remember(own, fresh)
        if not invalid(fresh.flags):
            self.store.remember(structure, fresh)
        return fresh, False

    def _beside_base(
        self, model: bytes, kind: str = "skeleton", *, settings: MeasureSettings, reject_above: float | None = None
    ) -> Measurement:
        reference: tuple[bytes, str] = (self.base_skeleton, "skeleton")
        return self.agent.measure(model, kind, reference=reference, settings=settings, reject_above=reject_above)

    def _required(
        self, key: str, measure: Callable[[MeasureSettings], Measurement], each: MeasureSettings, *, looks: int = 1
    ) -> Measurement:
        """Return valid figures; invalid ones end the run, are not kept, and are taken anew when it is resumed."""
        found = self._several(key, measure, each, looks=looks)
        if why_invalid(found):
            name, why = self.agent.device.name, retries.explain_flags(found)
            raise DeviceError(
                f"{name}: {retries.describe_quarantine(found)}: {why}. Without this measurement ({key}) the run cannot "
                f"go on; {retries.fix_hint(name, tolerant=self.tolerant)}; then resume the run"
            )
        return found

    def _several(
        self, key: str, measure: Callable[[MeasureSettings], Measurement], each: MeasureSettings, *, looks: int = 1
    ) -> Measurement:
        """Return what several processes say together, or the first one that stays invalid, which is not kept."""
        parts = []
        for number in range(1, each.processes * looks + 1):
            name = _process(key, number)
            if (part := self.store.recall(name)) is None:
                part = self._measure_with_retries(name, measure, each, exact=False)
                if why_invalid(part):
                    self.store.forget(_passes(name))
                    return part
                self.store.remember(name, part)
            parts.append(part)
        return combined(parts, ci_rel=each.ci_rel)

    def _widened(self, one: Measurement) -> Measurement:
        """Return the figures of one process with what differs between processes in the intervals of their ratios."""
        spreads = self.spreads
        return with_ratios(
            one, {m: spreads[m].widened(r, one.processes) if m in spreads else r for m, r in ratios(one).items()}
        )

    def _measure_with_retries(
        self,
        key: str,
        measure: Callable[[MeasureSettings], Measurement],
        settings: MeasureSettings | None = None,
        *,
        exact: bool = True,
    ) -> Measurement:
        chosen = settings or self.agent.device.measure
        return retries.measure_with_retries(
            lambda settle_s: measure(replace(chosen, settle_s=max(chosen.settle_s, settle_s))),
            tolerant=self.tolerant,
            ci_rel=chosen.ci_rel,
            exact=exact,
            passes=_Stored(self.store, _passes(key)),
        )


def recalled(store: Store, number: int, key: str) -> Measurement | None:
    """Return the valid figures of the network that a round named ``key``; None where there are none."""
    found = store.recall(_key(number, key))
    return None if found is None or why_invalid(found) else found


def _key(number: int, key: str) -> str:
    return f"{number}:{key}"


@dataclass(frozen=True, slots=True)
class _Stored:
    """The passes of one measurement, each in the run's store the moment it is done."""

    store: Store
    name: str

    def recall(self, number: int) -> Measurement | None:
        return self.store.recall(f"{self.name}{number}")

    def remember(self, number: int, measurement: Measurement) -> None:
        self.store.remember(f"{self.name}{number}", measurement)


def require_int8(measurement: Measurement, planned: int, device: str) -> None:
    """Refuse figures of a network of which the device computes less in INT8 than was planned: right, and slow.

    Raises:
        MeasureError: says how much of it.
    """
    found = measurement.conditions.get("int8_operators")
    if isinstance(found, int) and found < planned:
        raise MeasureError(
            f"{device} computes {found} of {planned} operators in INT8 ({measurement.runtime}); a newer onnxruntime on "
            "the board may compute more"
        )


def _passes(key: str) -> str:
    """Return what the names of a measurement's passes begin with."""
    return f"{key} pass "


def _process(key: str, number: int) -> str:
    """Return what the figures of one of several processes are kept by; they count from 1."""
    return f"{key} process {number}"


def longer(settings: MeasureSettings, times: float) -> MeasureSettings:
    """Return settings for a measurement ``times`` as long and as exact; the limits on its length move with it.

    >>> longer(MeasureSettings(min_s=10.0, max_s=60.0, timeout_s=300.0), 9.0).max_s
    180.0
    """
    min_s = settings.min_s * times
    max_s = max(settings.max_s, 2 * min_s)
    timeout_s = settings.timeout_s + max_s - settings.max_s
    return replace(settings, min_s=min_s, max_s=max_s, ci_rel=settings.ci_rel / times, timeout_s=timeout_s)


def one_process_of(settings: MeasureSettings) -> MeasureSettings:
    """Return settings for one of the processes that take as long together, and are as exact.

    >>> one_process_of(MeasureSettings(min_s=10.0, max_s=60.0, ci_rel=0.01, processes=4)).ci_rel
    0.02
    """
    parts = settings.processes
    return replace(
        settings,
        min_s=settings.min_s / parts, max_s=settings.max_s / parts, ci_rel=settings.ci_rel * math.sqrt(parts),
        idle_s=settings.idle_s / min(parts, 2),
    )  # fmt: skip
