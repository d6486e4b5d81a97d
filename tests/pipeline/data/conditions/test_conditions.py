"""Conditions: each kind at each severity, drawn image by image, over any pool."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.data import DataSet, load_data
from pipeline.data.conditions import (
    CLEAN,
    JUDGING,
    KINDS,
    TRAINING,
    Condition,
    corrupt,
    mixture,
    parse_condition,
    parse_conditions,
    under,
)
from pipeline.data.conditions.blur import disk, trace
from pipeline.data.conditions.kinds import COLOURS_ALONE
from pipeline.data.conditions.pools import ConditionedPool
from pipeline.data.pools import MemoryPool
from pipeline.errors import DataError


def scene(side: int, channels: int = 3, images: int = 2) -> np.ndarray:
    """Smooth colours with an edge across, as pictures have them."""
    down, across = np.mgrid[0:side, 0:side] / side
    planes = [down, across, (down + across > 0.9).astype(float)][:channels]
    one = np.stack(planes, -1) * 180 + 30
    return np.stack([np.roll(one, 3 * number, 1) for number in range(images)]).astype(np.uint8)


def off(changed: np.ndarray, clean: np.ndarray) -> float:
    return float(np.abs(changed.astype(float) - clean).mean())


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load_data("digits")


# ---------------------------------------------------------------- images


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_every_size_keep_their_shape_and_change(kind: str) -> None:
    for side, channels in ((8, 1), (32, 3), (120, 3)):
        clean = scene(side, channels)
        changed = corrupt(clean, Condition(kind, 5))
        assert changed.shape == clean.shape
        assert changed.dtype == np.uint8
        assert (off(changed, clean) > 0) == (channels == 3 or kind not in COLOURS_ALONE)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("saturate", "occlusion")])
@pytest.mark.parametrize("side", [32, 120])
def test_severity_5_is_further_from_the_clean_image_than_severity_1(kind: str, side: int) -> None:
    clean = scene(side)
    assert off(corrupt(clean, Condition(kind, 5)), clean) > off(corrupt(clean, Condition(kind, 1)), clean)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_depends_on_seed_and_index_and_not_on_its_batch(kind: str) -> None:
    clean, condition = scene(32, images=4), Condition(kind, 3)
    whole = corrupt(clean, condition, seed=1)
    assert (corrupt(clean[2:], condition, seed=1, indices=[2, 3]) == whole[2:]).all()
    drawn = kind not in ("defocus-blur", "brightness", "contrast", "jpeg", "pixelate", "saturate")
    assert (corrupt(clean, condition, seed=2) != whole).any() == drawn


def test_clean_images_are_as_they_were() -> None:
    assert corrupt(scene(32), CLEAN) is not None
    assert (corrupt(scene(32), CLEAN) == scene(32)).all()


def test_light_does_what_its_name_says() -> None:
    clean = scene(32)
    mean = {kind: corrupt(clean, Condition(kind, 4)).mean() for kind in ("night", "brightness", "fog", "snow")}
    assert mean["night"] < 0.5 * clean.mean() < clean.mean() < mean["brightness"]
    assert mean["snow"] > clean.mean()
    assert corrupt(clean, Condition("contrast", 4)).std() < 0.5 * clean.std()
    assert corrupt(clean, Condition("fog", 4)).std() < clean.std()


def test_kernels_spread_light_and_lose_none() -> None:
    for kernel in (disk(0.3, 0.4), disk(3.0, 0.5), trace(9.0, 2.5, 30.0)):
        assert kernel.sum() == pytest.approx(1)
    wide = disk(3.0, 0.1)
    assert (wide > 0.5 * wide.max()).sum() == pytest.approx(np.pi * 9, rel=0.15)
    assert np.allclose(wide, wide.T)


def test_what_is_kept_for_judging_is_not_trained_with() -> None:
    assert not set(TRAINING) & set(JUDGING)
    assert {*TRAINING, *JUDGING} == set(KINDS)


# ---------------------------------------------------------------- as they are written


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("fogg:3", "did you mean 'fog'"),
        ("fog", "from 1 to 5, none is given; write fog:3"),
        ("fog:6", "found '6'"),
        ("clean:1", "unknown condition"),
    ],
)
def test_a_condition_that_is_none_is_refused_with_what_there_is(text: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        parse_condition(text)


def test_conditions_are_read_as_they_are_written_and_named_once() -> None:
    assert [str(one) for one in parse_conditions(["clean", "fog:3"])] == ["clean", "fog:3"]
    with pytest.raises(DataError, match="fog:3 is named twice"):
        parse_conditions(["fog:3", "clean", "fog:3"])


# ---------------------------------------------------------------- data sets


def test_a_data_set_under_a_condition_has_the_same_images_in_the_same_splits(digits: DataSet) -> None:
    foggy = under(digits, parse_condition("fog:3"), seed=5)
    assert foggy.test.pool is foggy.train.pool, "where they share one, they go on doing so"
    for clean, seen in ((digits.train, foggy.train), (digits.test, foggy.test)):
        (before, labels), (after, same) = next(clean.batches(16)), next(seen.batches(16))
        assert (labels == same).all()
        assert (before != after).any()
    again = under(load_data("digits"), parse_condition("fog:3"), seed=5)
    assert (next(foggy.val.batches(8))[0] == next(again.val.batches(8))[0]).all()
    assert under(digits, CLEAN) is digits


def test_images_in_memory_are_made_once_and_augmented_after() -> None:
    images = torch.randint(0, 255, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pool = ConditionedPool(MemoryPool(images, torch.zeros(6, dtype=torch.int64), shift=2), Condition("fog", 3))
    last = pool.read(torch.tensor([5]))
    assert (pool.read(torch.arange(6))[5:] == last).all()
    plain = MemoryPool(pool.read(torch.arange(6)), pool.labels, shift=2)
    seeds = [torch.Generator().manual_seed(1) for _ in range(2)]
    which = torch.tensor([3, 0])
    assert (pool.augmented(which, seeds[0]) == plain.augmented(which, seeds[1])).all()


def test_a_mixture_has_each_image_under_one_condition_and_draws_anew_to_train(digits: DataSet) -> None:
    dark = under(digits, parse_condition("night:5"))
    mixed = mixture([digits, dark])
    indices = torch.arange(64)
    read, clean, night = (one.train.pool.read(indices) for one in (mixed, digits, dark))
    is_clean, is_dark = ((read == part).flatten(1).all(1) for part in (clean, night))
    assert (is_clean | is_dark).all()
    assert 0 < is_clean.sum() < 64
    assert (mixed.train.pool.read(indices) == read).all()
    draws = [mixed.train.pool.augmented(indices, torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    assert (draws[0] != draws[1]).any()
    assert mixture([digits]) is digits


def test_what_no_condition_fits_is_refused(digits: DataSet) -> None:
    with pytest.raises(DataError, match="changes colours, and digits images are grey"):
        under(digits, parse_condition("saturate:3"))
