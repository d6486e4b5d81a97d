"""Pools under a condition: another pool's images as they look then; or under several, each image under one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pipeline import structures
from pipeline.data.conditions.condition import Condition
from pipeline.data.conditions.corruption import corrupt
from pipeline.data.pools import MemoryPool, Pool, TargetPool
from pipeline.structures import Inputs


@dataclass(frozen=True, eq=False)
class ConditionedPool:
    """A pool's images under a condition; those of a pool in memory are made once and kept.

    Augmentation varies the image as it looks under the condition: it is moved, then cropped.
    """

    pool: Pool
    condition: Condition
    seed: int = 0

    @property
    def labels(self) -> Tensor:
        """The class of each image: no condition changes it."""
        return self.pool.labels

    @property
    def names(self) -> Sequence[str]:
        """What each image is called."""
        return self.pool.names

    def read(self, indices: Tensor) -> Tensor:
        """Return the images, uint8, N x C x H x W."""
        if self._kept is None:
            return self._changed(self.pool.read(indices), indices)
        return self._filled(indices).read(indices)

    def augmented(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images, each varied at random as is usual for the data set."""
        if self._kept is None:
            return self._changed(self.pool.augmented(indices, generator), indices)
        return self._filled(indices).augmented(indices, generator)

    @cached_property
    def _kept(self) -> tuple[MemoryPool, Tensor] | None:
        """The images as far as they are made, and which are; None: too many to be kept."""
        pool = self.pool
        if not isinstance(pool, MemoryPool):
            return None
        made = MemoryPool(torch.empty_like(pool.images), pool.labels, pool.shift, pool.flip, pool.names)
        return made, torch.zeros(len(pool.images), dtype=torch.bool)

    def _filled(self, indices: Tensor) -> MemoryPool:
        assert self._kept is not None  # asked by the caller
        made, is_made = self._kept
        missing = torch.unique(indices[~is_made[indices]])
        if len(missing):
            made.images[missing] = self._changed(self.pool.read(missing), missing)
            is_made[missing] = True
        return made

    def _changed(self, images: Tensor, indices: Tensor) -> Tensor:
        pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
        found = corrupt(pixels, self.condition, seed=self.seed, indices=indices.tolist())
        return torch.from_numpy(found).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True, eq=False)
class ConditionedTargetPool(ConditionedPool):
    """Examples of another task: their pictures under a condition, their targets as they are."""

    pool: TargetPool

    @property
    def digest(self) -> str:
        """Changes with what the pool holds."""
        return self.pool.digest

    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> tuple[Inputs, Any]:
        """Return inputs, the pictures among them as they look under the condition, and targets."""
        inputs, targets = self.pool.batch(indices, generator)

        def seen(values: Tensor) -> Tensor:
            is_picture = values.dtype == torch.uint8 and values.dim() == 4 and values.shape[1] in (1, 3)
            return self._changed(values, indices) if is_picture else values

        return structures.mapped(inputs, seen), targets


def conditioned(pool: Pool, condition: Condition, seed: int) -> Pool:
    """Return a pool under a condition; under the clean one it is what it was."""
    if not condition.severity:
        return pool
    if isinstance(pool, TargetPool):
        return ConditionedTargetPool(pool, condition, seed)
    return ConditionedPool(pool, condition, seed)


@dataclass(frozen=True, eq=False)
class MixturePool:
    """Pools of the same images under several conditions: read, an image is always under the same one of them.

    Augmented, it is under one that is drawn anew each time.
    """

    pools: Sequence[Pool]
    seed: int = 0

    @property
    def labels(self) -> Tensor:
        """The class of each image."""
        return self.pools[0].labels

    @property
    def names(self) -> Sequence[str]:
        """What each image is called."""
        return self.pools[0].names

    def read(self, indices: Tensor) -> Tensor:
        """Return the images, each under its condition."""
        return self._of_each(self._which[indices], lambda pool, rows: pool.read(indices[rows]))

    def augmented(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images, each varied at random and under a condition that is drawn."""
        which = torch.randint(len(self.pools), (len(indices),), generator=generator)
        return self._of_each(which, lambda pool, rows: pool.augmented(indices[rows], generator))

    @cached_property
    def _which(self) -> Tensor:
        """The number of each image's pool."""
        drawn = torch.Generator().manual_seed(self.seed)
        return torch.randint(len(self.pools), (len(self.labels),), generator=drawn)

    def _of_each(self, which: Tensor, read: Any) -> Tensor:
        found: Tensor | None = None
        for number, pool in enumerate(self.pools):
            rows = (which == number).nonzero()[:, 0]
            if not len(rows):
                continue
            part = read(pool, rows)
            if found is None:
                found = part.new_empty((len(which), *part.shape[1:]))
            found[rows] = part
        return self.pools[0].read(which[:0]) if found is None else found
