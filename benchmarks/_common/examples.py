"""What a network of one input is traced with."""

from __future__ import annotations

from torch import Tensor

from pipeline.data.dataset import Split


def example_of(split: Split, count: int = 8) -> Tensor:
    """Return a few of a split's normalised images."""
    images, _ = next(split.batches(count))
    assert isinstance(images, Tensor), "these benchmarks are of networks of one input"
    return images
