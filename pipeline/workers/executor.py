"""Executor: takes tasks and returns futures, as ``concurrent.futures`` does; which process computes them is its matter.

What a task is made of travels once: ``Shared`` goes to each worker before its first task, the task itself is a small
record. A task must come to the same result wherever it runs: it seeds its own generators, and sets with how many
threads it computes, for sums are rounded by that.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

Inputs_contra = TypeVar("Inputs_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)
Inputs = TypeVar("Inputs")
Result = TypeVar("Result")
Item = TypeVar("Item")

Tell = Callable[[Any], None]
"""Takes what a task says while it computes: events of a run, and records of the task's own. What it raises ends it."""


class Task(Protocol[Inputs_contra, Result_co]):
    """Work that can be sent: a frozen record that is called in a worker."""

    @property
    def trains(self) -> bool:
        """Whether a GPU helps it."""
        ...

    def __call__(self, inputs: Inputs_contra, tell: Tell) -> Result_co:
        """Return the result; raises what the task raises in this process, too."""
        ...


@dataclass(frozen=True, eq=False)
class Shared(Generic[Inputs]):
    """What many tasks are computed from; a worker keeps the last that it was sent."""

    value: Inputs
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @cached_property
    def payload(self) -> bytes:
        """The value as bytes; raises WorkersError where it cannot be sent."""
        from pipeline.workers.payload import packed  # torch takes seconds to import

        return packed(self.value)


class Executor(Protocol):
    """Computes tasks."""

    @property
    def size(self) -> int:
        """How many tasks are computed at once."""
        ...

    @property
    def is_elsewhere(self) -> bool:
        """Whether tasks are computed in other processes than this one."""
        ...

    def threads(self, available: int) -> int:
        """Return with how many threads a task should compute, where this process has so many."""
        ...

    def submit(
        self, begin: Callable[[], Task[Inputs, Result]], shared: Shared[Inputs], *, what: str, tell: Tell
    ) -> Future[Result]:
        """Compute a task.

        Args:
            begin: makes the task, anew for each attempt where workers are lost.
            shared: what it is computed from.
            what: the task in a few words: ``candidate 3``.
            tell: hears what the task says, from any thread; what it raises ends the task, and is its result.
        """
        ...

    def close(self) -> None:
        """End what is under way, and every worker."""
        ...


class InProcess:
    """Computes each task at once, here."""

    size = 1
    is_elsewhere = False

    def threads(self, available: int) -> int:
        """Return all that there are."""
        return available

    def submit(
        self, begin: Callable[[], Task[Inputs, Result]], shared: Shared[Inputs], *, what: str, tell: Tell
    ) -> Future[Result]:
        """Return a future whose task is over."""
        del what
        future: Future[Result] = Future()
        try:
            future.set_result(begin()(shared.value, tell))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        """There is nothing to end."""


def in_order(
    executor: Executor, submit: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[tuple[Item, Result]]:
    """Yield items and what submitting them returned, in order; elsewhere all of them are under way by then.

    In this process each item is through before the next is begun, as in a plain loop.
    """
    submitted = ((item, submit(item)) for item in items)
    yield from list(submitted) if executor.is_elsewhere else submitted
