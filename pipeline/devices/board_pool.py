"""Board pool: the boards that measure for one run, one or several of one kind, each in a session of its own.

Whoever wants something measured asks the pool, which gives it to a board that is free. A board that is lost gives its
work to the others; when the last one is lost, its error is raised, as that of a single board is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from pipeline.devices.agent_client import Agent, open_agent
from pipeline.devices.connection import OnEvent, Record
from pipeline.devices.side_by_side import side_by_side
from pipeline.errors import ConfigError, DeviceError, PipelineError
from pipeline.measurement.board_drift import drifted_away
from pipeline.records import Device, OverBoards, Processor
from pipeline.records.fleet import Status

_log = logging.getLogger(__name__)

T = TypeVar("T")
Tell = Callable[[str], None]
"""Hears, in a sentence, of a board that measures no more."""


@dataclass(slots=True)
class PooledBoard:
    """One board of a pool, and whether it still measures."""

    name: str
    agent: Agent | None
    """None: it could not be reached when the run began or was resumed."""
    status: Status = "measuring"
    why: str = ""
    """Why it measures no more, and what to do."""
    busy: bool = False
    taken: int = 0
    """How often it was given something to do."""
    slowdowns: list[float] = field(default_factory=list)
    """Of its measurements in this session, see ``board_drift.drifted_away``."""

    @property
    def measures(self) -> bool:
        """Whether it is given work."""
        return self.agent is not None and self.status == "measuring"


class BoardPool:
    """The boards of a run; may be asked from several threads."""

    def __init__(
        self, name: str, boards: Sequence[PooledBoard], *, over: OverBoards = "mean", tell: Tell = _log.warning
    ) -> None:
        self.name = name
        """The device's, or the one that stands for all of them."""
        self.over: OverBoards = over
        """Which figure over the boards counts."""
        self.building = threading.Lock()
        """Held by whoever makes what is to be measured, one at a time."""
        self.kept: dict[str, Any] = {}
        """What whoever measures with these boards need not read or compute again; by names of theirs."""
        self._boards = {board.name: board for board in boards}
        self._tell = tell
        self._changed = threading.Condition()
        self._last_error: DeviceError | None = None
        self._networks: dict[str, threading.Lock] = {}
        self._later: ThreadPoolExecutor | None = None

    @classmethod
    def of(cls, agent: Agent) -> Self:
        """Return the pool of one board."""
        return cls(agent.device.name, [PooledBoard(agent.device.name, agent)])

    def __enter__(self) -> Self:
        """Return the pool itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close all sessions."""
        self.close()

    def close(self) -> None:
        """Let go of all boards."""
        self.settle()
        for board in self._boards.values():
            if board.agent is not None:
                board.agent.close()

    # ------------------------------------------------------------ what is known of the boards

    @property
    def boards(self) -> tuple[PooledBoard, ...]:
        """All boards, in the order in which they were named; those that measure no more, too."""
        return tuple(self._boards.values())

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self._boards)

    @property
    def several(self) -> bool:
        """Whether there is more than one."""
        return len(self._boards) > 1

    @property
    def measuring(self) -> tuple[str, ...]:
        """The names of those that are given work."""
        return tuple(board.name for board in self._boards.values() if board.measures)

    @property
    def agent(self) -> Agent:
        """The agent that speaks for all: of those that measure, the first one whose runtime loads the oldest ONNX."""
        known = [(board, board.agent) for board in self._boards.values() if board.agent is not None]
        measuring = [agent for board, agent in known if board.measures] or [agent for _, agent in known]
        if len(measuring) == 1:
            return measuring[0]
        return min(measuring, key=lambda agent: (agent.onnx_support.opset, agent.onnx_support.ir))

    @property
    def processors(self) -> list[Processor]:
        """Of all boards that are known."""
        return [board.agent.processor for board in self._boards.values() if board.agent is not None]

    @property
    def lookahead(self) -> int:
        """How many candidates may be on their way while one is measured.

        Of several boards, half as many more as there are: trials are judged in the order in which they were asked for,
        and boards do not wait for one that takes longer. More, and a strategy is told too late what came of its plans.
        """
        return self.agent.lookahead if not self.several else len(self._boards) * 3 // 2

    # ------------------------------------------------------------ work

    def on_one(self, work: Callable[[Agent], T], *, prefer: str | None = None) -> T:
        """Return what ``work`` comes to on a board that is free; on another one, where that board is lost.

        Args:
            work: is given the board's agent, which nobody else uses meanwhile.
            prefer: the board that is waited for while it measures; None: the first that is free.

        Raises:
            DeviceError: the last board that was left is lost.
        """
        while True:
            board = self._take(prefer)
            assert board.agent is not None  # only a board with one is taken
            try:
                return work(board.agent)
            except DeviceError as error:
                self._lose(board, error)
            finally:
                self._give_back(board)

    def on_each(self, work: Callable[[Agent], T]) -> dict[str, T]:
        """Return what ``work`` comes to on each board that measures, side by side; one that is lost is left out.

        Raises:
            DeviceError: all of them are lost.
        """

        def one(name: str) -> tuple[str, T] | None:
            with self._alone_with(name) as agent:
                try:
                    return name, work(agent)
                except DeviceError as error:
                    self._lose(self._boards[name], error)
            return None

        tasks = [partial(one, name) for name in self.measuring]
        return dict(found for found in self.at_once(tasks) if found is not None)

    def at_once(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """Return what tasks come to, in their order; as many run at once as boards measure.

        The first error ends it; tasks that have not begun are left out then.
        """
        if not self.several:
            return [task() for task in tasks]
        with ThreadPoolExecutor(max(1, len(self.measuring)), thread_name_prefix="device") as workers:
            pending = [workers.submit(task) for task in tasks]
            try:
                return [one.result() for one in pending]
            except BaseException:
                workers.shutdown(wait=False, cancel_futures=True)
                raise

    def later(self, task: Callable[[], object]) -> None:
        """Do something when all that was given before it is done; what nobody waits for may fail."""

        def quietly() -> None:
            try:
                task()
            except PipelineError as error:
                _log.debug("%s", error)

        with self._changed:
            if self._later is None:
                self._later = ThreadPoolExecutor(1, thread_name_prefix="later")
            self._later.submit(quietly)

    def settle(self) -> None:
        """Wait until what ``later`` has begun is through; what has not begun is left out."""
        with self._changed:
            later, self._later = self._later, None
        if later is not None:
            later.shutdown(cancel_futures=True)

    @contextmanager
    def one_at_a_time(self, network: str) -> Iterator[None]:
        """Let nobody else measure a network of this name meanwhile: what is known of it is not measured again."""
        with self._changed:
            lock = self._networks.setdefault(network, threading.Lock())
        with lock:
            yield

    def hold(self) -> dict[str, dict[str, Any]]:
        """Take all boards for this run alone and set their power modes; see ``Agent.hold``."""
        return {name: dict(found) for name, found in self.on_each(lambda agent: agent.hold()).items()}

    # ------------------------------------------------------------ boards that measure no more

    def note_speed(self, name: str, slowdown: float) -> None:
        """Take in how much slower a board has become; one that drifts away from the others is quarantined."""
        with self._changed:
            self._boards[name].slowdowns.append(slowdown)
            found = drifted_away({board.name: board.slowdowns for board in self._boards.values() if board.measures})
            for gone, away in found.items():
                self._quarantine(self._boards[gone], away)

    def _quarantine(self, board: PooledBoard, away: float) -> None:
        board.status = "quarantined"
        board.why = (
            f"it drifts away from the others: the base model is {abs(away):.1%} {'slower' if away > 0 else 'faster'} "
            f"beside it than when the run began, theirs taken off; `pipeline devices doctor {board.name}` looks at "
            "cooling, supply and other programs; a resumed run gives it work again"
        )
        self._tell(f"{board.name} is quarantined and measures no more: {board.why}")
        self._changed.notify_all()

    def _lose(self, board: PooledBoard, error: DeviceError) -> None:
        """Note that a board is lost; raise ``error`` where it was the last, or the only one."""
        if not self.several:
            raise error
        with self._changed:
            board.status, board.why, self._last_error = "lost", str(error), error
            if board.agent is not None:
                board.agent.close()
            left = self.measuring
            self._changed.notify_all()
        if not left:
            raise error
        self._tell(f"{board.name} is lost, {', '.join(left)} go on: {error}")

    # ------------------------------------------------------------ who is free

    def _take(self, prefer: str | None) -> PooledBoard:
        with self._changed:
            while True:
                there = [board for board in self._boards.values() if board.measures]
                if not there:
                    raise self._last_error or DeviceError("no board of this run measures any more; resume the run")
                wanted = [board for board in there if board.name == prefer] or there
                if free := [board for board in wanted if not board.busy]:
                    chosen = min(free, key=lambda board: board.taken)
                    chosen.busy = True
                    chosen.taken += 1
                    return chosen
                self._changed.wait()

    def _give_back(self, board: PooledBoard) -> None:
        with self._changed:
            board.busy = False
            self._changed.notify_all()

    @contextmanager
    def _alone_with(self, name: str) -> Iterator[Agent]:
        """Wait until a board is free, whatever its state, and have it."""
        board = self._boards[name]
        assert board.agent is not None  # only boards that measure are asked
        with self._changed:
            while board.busy:
                self._changed.wait()
            board.busy = True
        try:
            yield board.agent
        finally:
            self._give_back(board)


def open_boards(
    device: Device,
    *,
    over: OverBoards = "mean",
    on_event: OnEvent | None = None,
    record: Record | None = None,
    tell: Tell = _log.warning,
) -> BoardPool:
    """Start the agent on a device, or side by side on each of the boards that it stands for.

    Of several boards, one that cannot be reached is told of, and the others go on without it.

    Raises:
        DeviceError: the device cannot be used, or none of its boards.
        ConfigError: they do not compute alike.
    """
    if not device.boards:
        agent = open_agent(device, on_event=on_event, record=record)
        return BoardPool(device.name, [PooledBoard(device.name, agent)], over=over, tell=tell)
    opened = side_by_side(device.boards, lambda board: open_agent(board, on_event=on_event))
    boards = [PooledBoard(one.device, one.value) for one in opened]
    pool = BoardPool(device.name, boards, over=over, tell=tell)
    try:
        for board, one in zip(pool.boards, opened, strict=True):
            if one.error is not None:
                board.status, board.why = "lost", str(one.error)
        if not pool.measuring:
            raise next(one.error for one in opened if one.error is not None)
        for board in pool.boards:
            if not board.measures:
                tell(f"{board.name} is lost, {', '.join(pool.measuring)} go on without it: {board.why}")
        _require_alike(pool)
    except BaseException:
        pool.close()
        raise
    return pool


def _require_alike(pool: BoardPool) -> None:
    """Refuse boards whose figures mean different things."""
    found = {board.name: board.agent.device.runtime for board in pool.boards if board.agent is not None}
    if len(set(found.values())) > 1:
        said = ", ".join(f"{name} computes with {runtime}" for name, runtime in found.items())
        raise ConfigError(
            f"boards of one run must compute alike: {said}; set `runtime:` in the inventory, or run apart"
        )
