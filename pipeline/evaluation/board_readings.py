"""Readings of a run's boards: what each one measured, kept under its name, and what they say of all boards together.

A run on one board has none: what that one measures is what counts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.devices.agent_client import Agent
from pipeline.devices.board_pool import BoardPool, PooledBoard
from pipeline.evaluation.stored_passes import PASS, keep_valid
from pipeline.measurement.board_model import BoardModel, figure_over, fit, reading
from pipeline.measurement.combining import combined
from pipeline.measurement.validity import why_invalid
from pipeline.records import BoardState, Fleet, Interval, Measurement, OnBoard, OverBoards
from pipeline.store import Store
from pipeline.store.facts import FLEET

SHARE_ON_TWO = 0.1
"""Of the networks, those that are measured on a second board: what is the board's can be told from what is theirs."""
_READ, _MODEL = "measurements", "board model"


@dataclass(frozen=True, slots=True)
class BoardReadings:
    """The measurements of several boards, in the run's store, each under the board's name and the network's key."""

    boards: BoardPool
    store: Store

    # ------------------------------------------------------------ each board's own

    def key(self, board: str, key: str) -> str:
        """Return what a board's measurement is kept by."""
        return f"board {board}: {key}"

    def recall(self, key: str) -> Measurement | None:
        """Return what was measured of a network before the run was resumed, on whichever board."""
        found = (self.store.recall(self.key(board, key)) for board in self.boards.names)
        return next((one for one in found if one is not None), None)

    def begun_on(self, key: str) -> str | None:
        """Return the board on which a measurement was begun before the run was killed: its passes lie there."""
        begun = (b for b in self.boards.names if self.store.recall(self.key(b, f"{key}{PASS}1")) is not None)
        return next(begun, None)

    def base(self, board: str) -> Measurement | None:
        """Return the base model's figures on a board, of as many processes as are known; None: not measured there."""
        parts: list[Measurement] = []
        while (part := self.store.recall(self.base_key(board, len(parts) + 1))) is not None:
            parts.append(part)
        return combined(parts, ci_rel=math.inf) if parts else None

    def bases(self) -> dict[str, Measurement]:
        """Return the base model's figures on each board where it was measured."""
        found = {board: self.base(board) for board in self.boards.names}
        return {board: base for board, base in found.items() if base is not None}

    def base_key(self, board: str, process: int) -> str:
        """Return what the base model's figures of one process on a board are kept by."""
        return self.key(board, f"base process {process}")

    def read(
        self,
        key: str,
        network: str,
        measure: Callable[[Agent, str], Measurement],
        base_on: Callable[[Agent], Measurement],
        *,
        prefer: str | None = None,
        but_not: str | None = None,
    ) -> Measurement | None:
        """Return a network's figures as one of the boards measures them, valid or not; valid ones are kept.

        Args:
            key: what they are kept by, beside the board's name.
            network: networks of one name take the same time.
            measure: measures on a board, given the key with the board's name.
            base_on: returns the base model's figures on a board.
            prefer: the board that is waited for.
            but_not: a board that has measured it already; where no other is left, None is returned.

        Raises:
            MeasureError, DeviceError: as ``Agent.measure``, the latter when no board is left.
        """
        if (known := self.recall(key)) is not None:
            return known

        def on_board(agent: Agent) -> Measurement | None:
            name = agent.device.name
            if name == but_not:
                return None
            base, own = base_on(agent), self.key(name, key)
            found = _noted(measure(agent, own), name, network, base)
            keep_valid(self.store, own, found)
            if found.board is not None and not why_invalid(found):
                self.boards.note_speed(name, found.board.slowdown)
            return found

        return self.boards.on_one(on_board, prefer=self.begun_on(key) or prefer)

    def model(self) -> BoardModel | None:
        """Return what boards differ by; None: no network was measured on two of them yet."""
        found = [one for measured in self._sound() if (one := reading(measured)) is not None]
        count, model = self.boards.kept.get(_MODEL, (0, None))
        if count != len(found):
            model = fit(found)
            self.boards.kept[_MODEL] = len(found), model
        fitted: BoardModel | None = model
        return fitted

    # ------------------------------------------------------------ all boards together

    def over_boards(self, parts: Sequence[Measurement]) -> list[Measurement]:
        """Return boards' measurements of one network, each as what it says of all boards; see ``board_model``.

        Latencies in milliseconds are told in those of all boards, too: by the base model's there over the base model's
        over all boards.

        Args:
            parts: as they were measured, each on a board of its own.
        """
        bases, model = self.bases(), self.model()
        whole = base_over_boards(bases, self.boards.over)
        return [_as_over_boards(one, model, bases, whole, self.boards.over) for one in parts]

    def factor(self, board: str) -> float:
        """Return what a latency ratio on a board is over that of all boards, as far as is known."""
        model = self.model()
        return 1.0 if model is None else model.factor(board, self.boards.over)

    def second_board(self, first: str) -> str | None:
        """Return the board on which a network is measured as well; None: enough are, or there is no other board.

        That is the one with the fewest such networks, so that all boards are compared with each other.
        """
        others = [board for board in self.boards.measuring if board != first]
        on = self._boards_of_networks()
        several = [boards for boards in on.values() if len(boards) > 1]
        if not others or len(several) >= max(math.ceil(SHARE_ON_TWO * len(on)), len(others)):
            return None
        return min(others, key=lambda board: sum(board in boards for boards in several))

    def _boards_of_networks(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = defaultdict(set)
        for one in self._sound():
            if one.board is not None:
                found[one.board.network].add(one.board.name)
        return found

    def _sound(self) -> list[Measurement]:
        """Return what counts in the model: whole and valid."""
        return [one for one in self._measured("board ") if not one.early and not why_invalid(one)]

    def _measured(self, beginning: str) -> list[Measurement]:
        """Return boards' measurements whose keys begin so; one that is stored is never changed, and read once."""
        known = self.boards.kept.setdefault(_READ, {})
        keys = [key for key in self.store.measured(beginning) if PASS not in key]
        for key in keys:
            if key not in known:
                known[key] = self.store.recall(key)
        return [known[key] for key in keys]

    # ------------------------------------------------------------ for people

    def remember(self) -> None:
        """Store which boards measure, and what they differ by."""
        self.store.set(FLEET, self.fleet())

    def fleet(self) -> Fleet:
        """Return which boards measure, and what they differ by."""
        model, before = self.model(), self.store.get(FLEET)
        known = {} if before is None else {state.name: state for state in before.boards}
        return Fleet(
            over=self.boards.over,
            boards=tuple(self._state(board, model, known.get(board.name)) for board in self.boards.boards),
            components=None if model is None else model.components,
        )

    def _state(self, board: PooledBoard, model: BoardModel | None, before: BoardState | None) -> BoardState:
        measured = self._measured(self.key(board.name, ""))
        base = self.base(board.name)
        last = board.slowdowns[-1] if board.slowdowns else None if before is None else before.slowdown
        return BoardState(
            name=board.name,
            status=board.status,
            why=board.why,
            base_ms=None if base is None else base.p50_ms,
            measurements=len(measured),
            busy_s=sum(one.seconds for one in measured),
            slowdown=last,
            effect=None if model is None else model.effect(board.name),
        )


def base_over_boards(bases: Mapping[str, Measurement], over: OverBoards) -> Measurement:
    """Return the base model's figures over boards: its latency in milliseconds is the figure over them that counts.

    In milliseconds a network's latency is its ratio times this. Where boards differ in ratios as well, that is never
    less than the slowest board's own.
    """
    found = list(bases.values())
    whole = combined(found, ci_rel=math.inf)
    value = math.exp(figure_over([math.log(one.p50_ms.value) for one in found], over))
    shares = [one.p50_ms.half_width / one.p50_ms.value for one in found]
    half = value * math.hypot(*shares) / (len(shares) if over == "mean" else math.sqrt(len(shares)))
    return replace(_scaled(whole, value / whole.p50_ms.value), p50_ms=Interval(value, value - half, value + half))


def _noted(found: Measurement, board: str, network: str, base: Measurement) -> Measurement:
    """Return a board's measurement with the board's name, and how much slower it was than as the run began."""
    now_ms = found.p50_ms.value if found.reference_p50_ms is None else found.reference_p50_ms
    return replace(found, board=OnBoard(name=board, network=network, slowdown=now_ms / base.p50_ms.value - 1))


def _as_over_boards(
    one: Measurement, model: BoardModel | None, bases: Mapping[str, Measurement], whole: Measurement, over: OverBoards
) -> Measurement:
    board = one.board
    if board is None or one.ratio is None:
        return one
    scaled = _scaled(one, whole.p50_ms.value / bases[board.name].p50_ms.value)
    if model is None:
        return scaled
    ratio = model.over_boards(one.ratio, board.name, math.log1p(board.slowdown), over)
    return replace(scaled, ratio=ratio, board=replace(board, ratio=one.ratio))


def _scaled(one: Measurement, factor: float) -> Measurement:
    """Return a measurement with its milliseconds in those of another board."""
    reference = one.reference_p50_ms
    return replace(
        one, p50_ms=one.p50_ms / (1 / factor), p90_ms=one.p90_ms * factor, p99_ms=one.p99_ms * factor,
        mean_ms=one.mean_ms * factor, reference_p50_ms=None if reference is None else reference * factor,
    )  # fmt: skip
