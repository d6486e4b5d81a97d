"""A data set as the pipeline uses it: four disjoint splits, read in normalised batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline import structures
from pipeline.data.image_io import Fitting
from pipeline.data.pools import Pool, TargetPool
from pipeline.data.splits import Splits
from pipeline.objective.load import classification
from pipeline.objective.task import Task
from pipeline.structures import Inputs

STATISTICS_IMAGES = 512
"""How many training images describe the input to the search: enough for two digits of mean and variance."""


class InputStatistics(NamedTuple):
    """Mean and variance over all values of normalised inputs."""

    mean: float
    variance: float


class ChannelStatistics(NamedTuple):
    """Mean and variance of normalised inputs, of each channel."""

    mean: tuple[float, ...]
    variance: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Split:
    """Some of a pool's images, in a fixed, class-mixed order; splits of one pool share its storage."""

    pool: Pool
    indices: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.indices)

    @cached_property
    def labels(self) -> Tensor:
        """The class of each image, int64, in the order in which unshuffled batches come."""
        return self.pool.labels[self.indices]

    def batches(
        self,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        augment: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[Inputs, Any]]:
        """Yield images and labels (int64), or inputs and targets of another task; the last batch may be smaller.

        Images are float32, normalised, N x C x H x W; signals N x C x samples; of several inputs, a tuple.

        Args:
            batch_size: images a batch.
            generator: shuffles, and drives the augmentation; without it the order is fixed.
            augment: vary each image at random; without a generator, by torch's global one.
            limit: stop after so many images; None: all.
        """
        order = self.indices
        if generator is not None:
            order = order[torch.randperm(len(order), generator=generator)]
        for indices in torch.split(order[:limit], batch_size):
            if isinstance(self.pool, TargetPool):
                vary = (generator or torch.default_generator) if augment else None
                inputs, targets = self.pool.batch(indices, vary)
                yield structures.mapped(inputs, self._as_taken), targets
                continue
            if augment:
                images = self.pool.augmented(indices, generator or torch.default_generator)
            else:
                images = self.pool.read(indices)
            yield self._normalised(images), self.pool.labels[indices]

    def _as_taken(self, values: Tensor) -> Tensor:
        """Return an input as the network takes it: pixels normalised, all else as it is."""
        return self._normalised(values) if values.dtype == torch.uint8 else values

    @cached_property
    def _scale_and_offset(self) -> tuple[Tensor, Tensor]:
        """Factors that turn bytes into normalised values in one multiplication and one addition, by channel."""
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return 1 / (255 * std), -mean / std

    def _normalised(self, images: Tensor) -> Tensor:
        by_channel = (-1, *(1,) * (images.dim() - 2))
        if images.dtype != torch.uint8:  # a signal's own numbers, which may lie far from zero
            mean, std = torch.tensor(self.mean), torch.tensor(self.std)
            return images.sub(mean.reshape(by_channel)).div_(std.reshape(by_channel))
        scale, offset = (factor.reshape(by_channel) for factor in self._scale_and_offset)
        return images.to(torch.float32).mul_(scale).add_(offset)


@dataclass(frozen=True, eq=False, kw_only=True)
class DataSet:
    """What a network is trained, searched and judged on; the test split is touched once, at the end."""

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    """Channels, height, width; of signals channels, samples."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Per channel, of pixels in [0, 1], or of a signal's own numbers; a network's input is (pixel - mean) / std."""
    train: Split
    search: Split
    """Judges candidates during the search; never trained on before the search is over."""
    val: Split
    """Chooses among the finalists."""
    test: Split
    splits: Splits | None = None
    """What the four were made from, to be stored."""
    skipped: tuple[str, ...] = ()
    """Images that cannot be read and are in no split."""
    fitting: Fitting | None = None
    """How images are scaled; None: they come in their size."""
    more_shapes: tuple[tuple[int, ...], ...] = ()
    """Of a network's further inputs; ``shape`` is the first one's."""
    task: Task = field(default_factory=classification)
    """What a network is trained by and judged by."""

    @property
    def has_signals(self) -> bool:
        """Whether it is of signals, channels x samples, for networks of Conv1d."""
        return len(self.shape) == 2

    def everything_but_test(self) -> Split:
        """Return train, search and val as one split, for the last fine-tuning."""
        indices = torch.cat([part.indices for part in (self.train, self.search, self.val)])
        return Split(self.train.pool, indices, self.mean, self.std)

    def search_and_val(self) -> Split:
        """Return search and val as one split, for judging a network that neither has trained."""
        return Split(self.train.pool, torch.cat([self.search.indices, self.val.indices]), self.mean, self.std)

    @cached_property
    def input_statistics(self) -> InputStatistics:
        """Mean and variance of the first training images, normalised, not augmented; of several inputs, the first."""
        variance, mean = torch.var_mean(self._described(), correction=0)
        return InputStatistics(mean.item(), variance.item())

    @cached_property
    def channel_statistics(self) -> ChannelStatistics:
        """The same of each channel: AKPERL's input statistics, by which conditions of the data can be told apart."""
        by_channel = self._described().transpose(0, 1).flatten(1)
        variance, mean = torch.var_mean(by_channel, 1, correction=0)
        return ChannelStatistics(tuple(mean.tolist()), tuple(variance.tolist()))

    def _described(self) -> Tensor:
        batches = self.train.batches(STATISTICS_IMAGES, limit=STATISTICS_IMAGES)
        return torch.cat([structures.arguments(inputs)[0] for inputs, _ in batches])
