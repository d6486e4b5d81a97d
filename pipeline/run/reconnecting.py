"""A finished run's inputs and board, connected once more to measure further networks of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import UserError
from pipeline.events import Listener
from pipeline.records import REPLAY, DeviceFacts
from pipeline.run.splitting import stored_splits
from pipeline.run.stored_settings import stored_settings
from pipeline.store import Store
from pipeline.store.facts import DEVICE, DEVICE_FACTS

if TYPE_CHECKING:
    from pipeline.run.runner import Prepared


@contextmanager
def reconnected(
    store: Store,
    inventory: Path | None,
    what: str,
    *,
    listen: Listener,
    starting: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[Prepared]:
    """Yield a run's inputs, split as they were, and its device.

    Args:
        store: the run's, open for writing.
        inventory: None: the one that the run was started with.
        what: is to be measured, for messages.
        starting: the block in which all is made ready.

    Raises:
        UserError: the device is a recording, or another board by now; or the inputs cannot be used.
        DeviceError: the device cannot be used.
    """
    from pipeline.run.runner import prepared  # torch takes seconds to import

    require_board(store, what)
    config, board = stored_settings(store, inventory)
    with ExitStack() as stack:
        with starting():
            ready = stack.enter_context(
                prepared(config, board, listen=listen, weights_known=True, splits=stored_splits(store))
            )
        require_same_board(store, ready.agent.facts, ready.agent.device.name, what)
        yield ready


def require_board(store: Store, what: str) -> None:
    """Raise UserError where the run's device is a recording, which answers for no other network."""
    if store.required(DEVICE).get("kind") == REPLAY:
        raise UserError(
            f"run {store.id} was played back from a recording, which knows the latencies of its own networks alone; "
            f"{what} need the board: run again on it"
        )


def require_same_board(store: Store, found: DeviceFacts, name: str, what: str) -> None:
    """Refuse another board under the run's device's name: its latencies are others.

    Args:
        found: what the board says of itself now.
        name: of the device.
        what: has to be measured on the same board.

    Raises:
        UserError: it is another one.
    """
    facts = store.required(DEVICE_FACTS)
    was, now = (facts.board, facts.cpu), (found.board, found.cpu)
    if was != now:
        raise UserError(
            f"{name} is another board now than when run {store.id} was made: it was {' '.join(was)}, found "
            f"{' '.join(now)}; its {what} have to be measured on the same one"
        )
