"""Side by side: the same done on several boards at once; each comes to an outcome or an error of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.errors import PipelineError
from pipeline.records import Device

T = TypeVar("T")

AT_ONCE = 32
"""Boards that are worked on at the same time: threads that wait for answers."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What one board came to."""

    device: str
    value: T | None
    error: PipelineError | None = None
    """Why there is none."""


def side_by_side(
    devices: Sequence[Device], work: Callable[[Device], T], *, on_done: Callable[[Outcome[T]], None] = lambda _: None
) -> list[Outcome[T]]:
    """Return each board's outcome, in the order of ``devices``; one that fails holds up no other.

    Args:
        on_done: hears of each board as it is through, in the caller's thread.
    """

    def one(device: Device) -> Outcome[T]:
        try:
            return Outcome(device.name, work(device))
        except PipelineError as error:
            return Outcome(device.name, None, error)

    with ThreadPoolExecutor(min(AT_ONCE, max(1, len(devices))), thread_name_prefix="board") as pool:
        pending = {pool.submit(one, device): place for place, device in enumerate(devices)}
        found: dict[int, Outcome[T]] = {}
        try:
            for done in as_completed(pending):
                found[pending[done]] = done.result()
                on_done(found[pending[done]])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [found[place] for place in range(len(devices))]
