"""Run context: what every part of a run shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from pipeline.config import RunConfig
from pipeline.data import DataSet
from pipeline.devices.agent_client import Agent
from pipeline.devices.board_pool import BoardPool
from pipeline.errors import StoppedError
from pipeline.events import Listener, StageProgress
from pipeline.export.format import Format
from pipeline.store import Store
from pipeline.store.facts import TUNING
from pipeline.structures import Inputs
from pipeline.training.accelerator import Accelerator, open_accelerator
from pipeline.workers.executor import Executor, InProcess


@dataclass(frozen=True, kw_only=True)
class Context:
    """The settings, where results go, the boards, the data, and the two lines to whoever started the run."""

    config: RunConfig
    store: Store
    boards: BoardPool
    data: DataSet
    example: Inputs
    """A few real, normalised images."""
    format: Format
    """In which networks are written for the device, made ready for the base model."""
    listen: Listener
    stopping: Callable[[], bool]
    workers: Executor = field(default_factory=InProcess)
    """What builds and fine-tunes candidates."""
    conditions: Mapping[str, DataSet] = field(default_factory=dict)
    """The data under each condition, of which ``data`` is the mixture; empty: the run has none."""
    condition: str = ""
    """Which of them ``data`` is under, where a network is made for one."""

    @property
    def agent(self) -> Agent:
        """The board, or the one that speaks for all."""
        return self.boards.agent

    def of_each_condition(self) -> list[Context]:
        """Return the context of each condition, its data alone in it; without conditions itself."""
        found = [replace(self, data=data, conditions={}, condition=name) for name, data in self.conditions.items()]
        return found or [self]

    @cached_property
    def accelerator(self) -> Accelerator:
        """What trains; ConfigError where it is not there."""
        return open_accelerator(self.config.accelerator)

    @property
    def compared(self) -> bool:
        """Whether this run is one of several that are compared by the validation split, which none trains on then."""
        return self.store.get(TUNING) is not None

    @property
    def task_threads(self) -> int:
        """With how many threads a task of a worker computes."""
        return self.workers.threads(torch.get_num_threads())

    @property
    def lookahead(self) -> int:
        """How many candidates are begun before the last one is told: none where that would disturb a measurement.

        On the user's own machine they are built on the cores that the runtime leaves free.
        """
        agent, usual, wanted = self.agent, self.boards.lookahead, self.config.lookahead
        if wanted is None or not usual:
            return usual
        return min(wanted, max(1, agent.free_cores // self.task_threads)) if agent.shared else wanted

    def stop_if_requested(self) -> None:
        """Raise StoppedError where the user asked to stop."""
        if self.stopping():
            raise StoppedError("stopped as requested; everything measured so far is kept")

    def report_progress(self, done: int, note: str = "") -> None:
        """Say how far the stage has come, unless the user asked to stop."""
        self.stop_if_requested()
        self.listen(StageProgress(done, note))
