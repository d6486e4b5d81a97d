"""Life cycle of a run: checked, begun or resumed, seen through; why it failed is noted.

Imports no torch before everything that was mistyped is told.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError, UserError
from pipeline.events import Listener, Stage
from pipeline.run.kinds import on_device
from pipeline.store.facts import BASE_WEIGHTS, FAILURE

if TYPE_CHECKING:
    from pipeline.config import RunConfig
    from pipeline.devices.agent_client import Agent
    from pipeline.devices.connection import Record
    from pipeline.records import Device
    from pipeline.store import Store

Around = Callable[["Store", "Agent"], AbstractContextManager[None]]


def see_through(
    config: RunConfig,
    device: Device,
    begin: Callable[[RunConfig], Store],
    *,
    listen: Listener,
    stopping: Callable[[], bool],
    known: Store | None = None,
    record: Record | None = None,
    starting: Callable[[], AbstractContextManager[None]] = nullcontext,
    around: Around = lambda *_: nullcontext(),
) -> Store:
    """Check everything, only then begin a new run, and see it through; return its store, for the caller to close.

    Args:
        begin: makes a new run's store, given the settings with all that was left out.
        known: the store of a run to go on with; None: a new one.
        record: hears the board's raw answers.
        starting: the block in which the run is being made ready, before anything is worth being finished.
        around: the block in which the run goes on, given its store and the agent that holds the board.

    Raises:
        UserError: something brought does not fit, or no candidate meets the target.
        DeviceError: the device cannot be used; what is stored stands, and the run can be resumed.
    """
    with ExitStack() as opened:
        with starting():
            listen(Stage("Load torch"))
            config = on_device(config, device)
            from pipeline.run.runner import execute, prepared  # takes seconds
            from pipeline.run.splitting import stored_splits

            weights_known = known is not None and known.get(BASE_WEIGHTS) is not None
            splits = None if known is None else stored_splits(known)
            ready = opened.enter_context(
                prepared(config, device, listen=listen, weights_known=weights_known, splits=splits, record=record)
            )
        store = begin(ready.inputs.config) if known is None else known
        with around(store, ready.agent):
            try:
                execute(ready, store, listen=listen, stopping=stopping)
            except PipelineError as error:
                _note_failure(store, error)
                raise
    return store


def _note_failure(store: Store, error: PipelineError) -> None:
    """Say that a run failed where its input is to blame; else it reads as interrupted, and can be resumed."""
    if isinstance(error, UserError):
        store.set(FAILURE, str(error))
        store.finish("failed")
