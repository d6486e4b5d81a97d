"""Device bench: measures candidates beside the base model, each structure once."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from pipeline import serialization
from pipeline.devices.agent_client import Agent
from pipeline.devices.board_pool import BoardPool
from pipeline.errors import DeviceError, MeasureError
from pipeline.evaluation.board_readings import BoardReadings, base_over_boards
from pipeline.evaluation.candidate_builder import Built
from pipeline.evaluation.stored_passes import Take, keep_valid, measure_with_stored_passes
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
    """Measures on one board, or on several that stand for each other, and keeps each measurement the moment it is done.

    Sound figures of one network hold for all of its structure: whichever of two equal blocks is gone, whichever weights
    are zero, the device computes the same.

    What comes back invalid (throttled, …) more often than it is repeated is kept as well, so that nothing is measured
    twice; ``why_invalid`` tells it from figures that may be used.

    Of several boards, each figure is what it is over all of them (see ``board_readings``); what each board measured is
    kept beside it.
    """

    boards: BoardPool
    store: Store
    base_skeleton: bytes
    """Skeleton of the base model: every candidate takes turns with it."""
    round: int = 1
    limits: Mapping[Metric, float] = field(default_factory=dict)
    """Targets as shares of the base model's figures: a candidate surely slower is not measured to the end."""

    @property
    def agent(self) -> Agent:
        """The board, or the one that speaks for all."""
        return self.boards.agent

    @property
    def readings(self) -> BoardReadings:
        """What each of several boards measured."""
        return BoardReadings(self.boards, self.store)

    def base(self) -> Measurement:
        """Return the base model's own figures against itself, by its skeleton, in several processes on each board.

        Each is measured as a candidate is: what processes differ by beyond that is in candidates' intervals.

        Raises:
            DeviceError: they stay invalid.
        """
        if self.boards.several:
            self.boards.on_each(self._base_on)
            return base_over_boards(self.readings.bases(), self.boards.over)
        each = self.agent.device.measure
        return self._required(BASE, self._several(BASE, self._base, each))

    @property
    def spreads(self) -> dict[Metric, Spread]:
        """How the board's ratios differ from process to process; absent: nobody has measured it.

        By the base model against itself and, of latency, by the calibration that held for the device when the run
        began, unless the two contradict each other: that one may be of a network that is less, or more, alike. Boards
        of one run tell it together.
        """
        spreads: dict[Metric, Spread] = {}
        for parts in self._base_parts():
            known = [ratios(part) for part in parts]
            for metric in MEASURED:
                found = between_processes([part[metric] for part in known if metric in part])
                if found is not None:
                    spreads[metric] = spreads[metric] + found if metric in spreads else found
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
        network = self._key(f"structure {skeleton.structure}")
        each = one_process_of(longer(self.agent.device.measure, WHOLE))
        take = partial(self._beside_base, model=skeleton.data)
        found = self._several(f"{network} again", take, each, network=network)
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

        def take(agent: Agent, settings: MeasureSettings) -> Measurement:
            return agent.measure(one.data, "skeleton", reference=reference, settings=settings)

        found = self._several(key, take, each)
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
        take = partial(self._beside_base, model=model, kind=kind)
        return self._required(name, self._several(name, take, each, looks=looks, network=name))

    @property
    def tolerant(self) -> bool:
        """Whether the device is the machine that the user works on, see :mod:`pipeline.measurement.retries`."""
        return self.agent.shared

    # ------------------------------------------------------------ one network

    def _key(self, key: str) -> str:
        return _key(self.round, key)

    def _figures(
        self, key: str, skeleton: Callable[[], Skeleton], reject_above: float | None = None
    ) -> tuple[Measurement, bool]:
        """Return a network's figures, and whether they were known: its own, or sound ones of its structure."""
        own = self._key(key)
        if (known := self.store.recall(own)) is not None:
            return known, True
        with self.boards.building:
            made = skeleton()
        structure = self._key(f"structure {made.structure}")
        with self.boards.one_at_a_time(structure):
            alike = self.store.recall(own) or self.store.recall(structure)
            if alike is not None and (reject_above is not None or not alike.early):
                self.store.remember(own, alike)
                return alike, True
            fresh = self._fresh(own, structure, made.data, reject_above)
            require_int8(fresh, made.int8_operators, self.agent.device.name)
            self.store.remember(own, fresh)
            if not invalid(fresh.flags):
                self.store.remember(structure, fresh)
        return fresh, False

    def _fresh(self, key: str, network: str, skeleton: bytes, reject_above: float | None) -> Measurement:
        """Return a network's figures, measured now."""
        settings = self.agent.device.measure
        if not self.boards.several:
            take = partial(self._beside_base, model=skeleton, reject_above=reject_above)
            return self._widened(self.boards.on_one(lambda agent: self._retried(key, agent, take, settings)))

        def on_its_board(agent: Agent, settings: MeasureSettings) -> Measurement:
            limit = None if reject_above is None else reject_above * self.readings.factor(agent.device.name)
            return self._beside_base(agent, settings, model=skeleton, reject_above=limit)

        one = self._read(key, network, on_its_board, settings)
        assert one is not None  # any board will do
        if one.board is not None and not one.early and not why_invalid(one):
            self.boards.later(partial(self._read_on_a_second, key, network, skeleton, one.board.name))
        return self.readings.over_boards([one])[0]

    def _read_on_a_second(self, key: str, network: str, skeleton: bytes, first: str) -> None:
        """Measure a network on another board as well, where what boards differ by is not known well enough yet."""
        other = self.readings.second_board(first)
        if other is not None:
            take = partial(self._beside_base, model=skeleton)
            self._read(f"{key} again", network, take, self.agent.device.measure, prefer=other, but_not=first)

    def _several(
        self, key: str, take: Take, each: MeasureSettings, *, looks: int = 1, network: str | None = None
    ) -> Measurement:
        """Return what several processes say together, or the first one that stays invalid, which is not kept.

        Args:
            key: what it is kept by.
            take: measures in one process.
            each: how long and how exactly.
            looks: how often so many processes.
            network: measured beside the base model; None: beside another one, or the base model itself.
        """
        over_boards = network is not None and self.boards.several

        def part(number: int) -> Measurement:
            name = _process(key, number)
            if network is not None and over_boards:
                measuring = self.boards.measuring
                prefer = measuring[(number - 1) % len(measuring)] if measuring else None
                read = self._read(name, network, take, each, prefer=prefer, exact=False)
                assert read is not None  # any board will do
                found = read
            else:
                found = self._part(name, take, each)
            if why_invalid(found):
                raise _InvalidPart(found)
            return found

        numbers = range(1, each.processes * looks + 1)
        try:
            parts = self.boards.at_once([partial(part, number) for number in numbers])
        except _InvalidPart as invalid_part:
            return invalid_part.measurement
        return combined(self.readings.over_boards(parts) if over_boards else parts, ci_rel=each.ci_rel)

    def _part(self, name: str, take: Take, each: MeasureSettings) -> Measurement:
        """Return what one process says, measured now unless it is known; an invalid one is not kept."""
        if (known := self.store.recall(name)) is not None:
            return known
        found = self.boards.on_one(lambda agent: self._retried(name, agent, take, each, exact=False))
        keep_valid(self.store, name, found)
        return found

    # ------------------------------------------------------------ on one of several boards

    def _read(
        self,
        key: str,
        network: str,
        take: Take,
        settings: MeasureSettings,
        *,
        prefer: str | None = None,
        but_not: str | None = None,
        exact: bool = True,
    ) -> Measurement | None:
        """Return a network's figures as one of several boards measures them; see ``BoardReadings.read``."""

        def measure(agent: Agent, own: str) -> Measurement:
            return self._widened(self._retried(own, agent, take, settings, exact=exact))

        return self.readings.read(key, network, measure, self._base_on, prefer=prefer, but_not=but_not)

    def _base_on(self, agent: Agent) -> Measurement:
        """Return the base model's figures on a board, measured now as far as they are not known.

        Raises:
            DeviceError: they stay invalid.
        """
        readings, name, each = self.readings, agent.device.name, agent.device.measure
        for process in range(1, each.processes + 1):
            key = readings.base_key(name, process)
            if self.store.recall(key) is None:
                found = self._retried(key, agent, self._base, each, exact=False)
                keep_valid(self.store, key, found)
                if why_invalid(found):
                    said, why = retries.describe_quarantine(found), retries.explain_flags(found)
                    fix = retries.fix_hint(name, tolerant=agent.shared)
                    raise DeviceError(f"{name}: the base model, to which all is compared, was {said}: {why}; {fix}")
        known = readings.base(name)
        assert known is not None  # its processes are there now
        return known

    def _base_parts(self) -> Iterator[list[Measurement]]:
        """Yield what the base model's processes say on each board."""
        processes = range(1, self.agent.device.measure.processes + 1)
        for name in self.boards.names if self.boards.several else (None,):
            keys = (_process(BASE, p) if name is None else self.readings.base_key(name, p) for p in processes)
            yield [part for key in keys if (part := self.store.recall(key)) is not None]

    # ------------------------------------------------------------ one measurement

    def _base(self, agent: Agent, settings: MeasureSettings) -> Measurement:
        return self._beside_base(agent, settings, model=self.base_skeleton)

    def _beside_base(
        self,
        agent: Agent,
        settings: MeasureSettings,
        *,
        model: bytes,
        kind: str = "skeleton",
        reject_above: float | None = None,
    ) -> Measurement:
        reference: tuple[bytes, str] = (self.base_skeleton, "skeleton")
        return agent.measure(model, kind, reference=reference, settings=settings, reject_above=reject_above)

    def _required(self, key: str, found: Measurement) -> Measurement:
        """Return valid figures; invalid ones end the run, are not kept, and are taken anew when it is resumed."""
        if why_invalid(found):
            name, why = self.agent.device.name, retries.explain_flags(found)
            raise DeviceError(
                f"{name}: {retries.describe_quarantine(found)}: {why}. Without this measurement ({key}) the run cannot "
                f"go on; {retries.fix_hint(name, tolerant=self.tolerant)}; then resume the run"
            )
        return found

    def _widened(self, one: Measurement) -> Measurement:
        """Return the figures of one process with what differs between processes in the intervals of their ratios."""
        spreads = self.spreads
        return with_ratios(
            one, {m: spreads[m].widened(r, one.processes) if m in spreads else r for m, r in ratios(one).items()}
        )

    def _retried(
        self, key: str, agent: Agent, take: Take, settings: MeasureSettings, *, exact: bool = True
    ) -> Measurement:
        return measure_with_stored_passes(self.store, key, agent, take, settings, exact=exact)


def recalled(store: Store, number: int, key: str) -> Measurement | None:
    """Return the valid figures of the network that a round named ``key``; None where there are none."""
    found = store.recall(_key(number, key))
    return None if found is None or why_invalid(found) else found


def _key(number: int, key: str) -> str:
    return f"{number}:{key}"


class _InvalidPart(Exception):  # noqa: N818 - it ends a loop, and is no error there
    """One of several processes whose figures stay invalid."""

    def __init__(self, measurement: Measurement) -> None:
        super().__init__()
        self.measurement = measurement


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
