"""Batch feed: endless shuffled, augmented batches whose position can be stored and restored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline.structures import Inputs, count

Batch = tuple[Inputs, Any]
"""What a network takes, and what it is to answer."""
View = tuple[int, int]
"""Which of the passes that repeat a batch is of, and its number there."""


class Images(Protocol):
    """Labelled images that come in batches: what the data sets' splits are."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def batches(
        self,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        augment: bool = False,
        limit: int | None = None,
    ) -> Iterator[Batch]:
        """Yield batches, normalised, and what they are to be answered with; shuffled where a generator is given."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a feed has come to."""

    start: Tensor
    """The generator's state at the beginning of the pass."""
    now: Tensor
    """And after the batches that were taken."""
    taken: int
    """Batches of this pass that were taken."""
    passes: int
    """Passes that were begun."""


class Feed:
    """Passes over the images, each in a new order; batches of a single image are left out."""

    def __init__(self, images: Images, batch_size: int, seed: int, views: int = 0) -> None:
        """Begin before the first pass.

        Args:
            views: passes that differ; what comes after them repeats them, order and augmentation alike. 0: all do.
        """
        self._images = images
        self._batch_size = batch_size
        self._generator = torch.Generator().manual_seed(seed)
        self._seeds: list[int] = torch.randint(2**62, (views,), generator=self._generator).tolist()
        self._start = self._generator.get_state()
        self._taken = self._passes = 0
        self._pass: Iterator[Batch] = iter(())

    @property
    def view(self) -> View | None:
        """By which the batch that was taken last is known when it comes again; None: it does not."""
        return ((self._passes - 1) % len(self._seeds), self._taken) if self._seeds else None

    def take(self) -> Batch:
        """Return the next batch."""
        while True:
            batch = next(self._pass, None)
            if batch is None:
                self._passes += 1
                if self._seeds:
                    self._generator.manual_seed(self._seeds[(self._passes - 1) % len(self._seeds)])
                self._begin_pass()
                continue
            self._taken += 1
            if count(batch[0]) > 1:  # batch norm cannot learn from one image
                return batch

    def place(self) -> Place:
        """Return where the feed has come to."""
        return Place(self._start, self._generator.get_state(), self._taken, self._passes)

    def go_to(self, place: Place) -> bool:
        """Go on from ``place``; say whether the images still draw what they drew on the way there.

        The batches up to there are read again, for they draw from the generator; nothing is computed with them.
        """
        self._generator.set_state(place.start)
        self._begin_pass()
        read = sum(1 for _ in zip(range(place.taken), self._pass, strict=False))
        self._taken, self._passes = place.taken, place.passes
        return read == place.taken and torch.equal(self._generator.get_state(), place.now)

    def _begin_pass(self) -> None:
        self._start, self._taken = self._generator.get_state(), 0
        self._pass = self._images.batches(self._batch_size, generator=self._generator, augment=True)
