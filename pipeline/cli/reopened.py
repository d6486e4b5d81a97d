"""A run of before with its device connected again, for a command that measures more of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.events import Listener
from pipeline.store import Store

if TYPE_CHECKING:
    from pipeline.run.runner import Prepared


@dataclass(frozen=True, slots=True)
class Reopened:
    """A run's inputs and its device, who hears how far the work is, and whether the user asked to stop."""

    ready: Prepared
    listen: Listener
    stopping: Callable[[], bool]


@contextmanager
def reopened(store: Store, inventory: Path | None, what: str) -> Iterator[Reopened]:
    """Yield a run's inputs, split as they were, and its device; see ``pipeline.run.reconnecting``."""
    from pipeline.cli.exits import ended_at_once
    from pipeline.cli.signals import stop_requested
    from pipeline.cli.views.live import view
    from pipeline.run.reconnecting import reconnected  # torch takes seconds to import

    with (
        stop_requested() as stopping,
        view() as listen,
        reconnected(store, inventory, what, listen=listen, starting=ended_at_once) as ready,
    ):
        yield Reopened(ready, listen, stopping)
