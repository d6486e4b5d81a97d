"""A data set under a condition, or as a mixture of several: the same splits of the same images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from pipeline.data.conditions.condition import Condition
from pipeline.data.conditions.kinds import COLOURS_ALONE
from pipeline.data.conditions.pools import MixturePool, conditioned
from pipeline.data.dataset import DataSet, Split
from pipeline.data.pools import Pool, TargetPool
from pipeline.errors import DataError


def under(data: DataSet, condition: Condition, *, seed: int = 0) -> DataSet:
    """Return a data set whose every image looks as under a condition.

    Args:
        data: of images.
        condition: see ``parse_condition``.
        seed: the same one gives the same images.

    Raises:
        DataError: it is of no images of 1 channel or 3, or the condition changes colours alone and they are grey.
    """
    if not condition.severity:
        return data
    if data.has_signals or data.shape[0] not in (1, 3):
        found = "signals" if data.has_signals else f"images of {data.shape[0]} channels"
        raise DataError(
            f"condition {condition} is of images of 1 channel or 3, {data.name} has {found}; leave the condition out"
        )
    if condition.kind in COLOURS_ALONE and data.shape[0] == 1:
        raise DataError(f"condition {condition} changes colours, and {data.name} images are grey; choose another kind")
    test = data.test.pool  # of a pool of its own other noise than training images of the same index have
    return _with_pools(data, lambda pool: conditioned(pool, condition, 2 * seed + (pool is test)))


def mixture(data: Sequence[DataSet], *, seed: int = 0) -> DataSet:
    """Return the mixture of a data set under several conditions, each image under one.

    Args:
        data: what ``under`` made of one data set.
        seed: which image is under which.

    Raises:
        DataError: its examples are of another task, whose inputs cannot be mixed.
    """
    if len(data) == 1:
        return data[0]
    first = data[0]
    if isinstance(first.train.pool, TargetPool):
        raise DataError(f"several conditions are for tasks of classes, {first.name} is of another; name one condition")
    tests, trains = ([getattr(one, part).pool for one in data] for part in ("test", "train"))
    mixed_train = MixturePool(trains, seed)
    mixed_test = mixed_train if first.test.pool is first.train.pool else MixturePool(tests, seed)
    return _with_pools(first, lambda pool: mixed_train if pool is first.train.pool else mixed_test)


def _with_pools(data: DataSet, made: Callable[[Pool], Pool]) -> DataSet:
    """Return a data set over other pools; splits of one pool share the new one, too."""
    new = {id(split.pool): made(split.pool) for split in (data.train, data.test)}

    def moved(split: Split) -> Split:
        return replace(split, pool=new[id(split.pool)])

    return replace(
        data, train=moved(data.train), search=moved(data.search), val=moved(data.val), test=moved(data.test)
    )  # fmt: skip
