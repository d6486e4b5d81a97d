"""A run of before with its device connected again, for a command that measures more of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
    """Yield a run's inputs, split as they were, and its device.

    Args:
        store: the run's, open for writing.
        inventory: as for ``pipeline run``.
        what: is to be measured, for messages.

    Raises:
        UserError: the device is a recording, or another board by now; or the inputs cannot be used.
        DeviceError: the device cannot be used.
    """
    from pipeline.baselines.stored import require_board, require_same_board  # torch takes seconds to import
    from pipeline.cli.exits import ended_at_once
    from pipeline.cli.signals import stop_requested
    from pipeline.cli.views.live import view
    from pipeline.run.runner import prepared
    from pipeline.run.splitting import stored_splits
    from pipeline.run.stored_settings import stored_settings

    require_board(store, what)
    config, board = stored_settings(store, inventory)
    with stop_requested() as stopping, view() as listen, ExitStack() as stack:
        with ended_at_once():
            ready = stack.enter_context(
                prepared(config, board, listen=listen, weights_known=True, splits=stored_splits(store))
            )
        require_same_board(store, ready.agent.facts, ready.agent.device.name, what)
        yield Reopened(ready, listen, stopping)
