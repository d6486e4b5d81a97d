"""Splits in batches: order, shuffling, limits, augmentation, normalisation."""

import pytest
import torch

from pipeline.data import load_data


@pytest.fixture(scope="module")
def data():
    return load_data("digits")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def labels_of(batches):
    return torch.cat([labels for _, labels in batches])


def test_batches_cover_the_split_once_in_the_order_of_its_labels(data):
    assert torch.equal(labels_of(data.search.batches(50)), data.search.labels)


def test_batches_are_float_images_and_long_labels(data):
    images, labels = next(data.train.batches(7))
    assert (images.dtype, images.shape) == (torch.float32, (7, 1, 8, 8))
    assert (labels.dtype, labels.shape) == (torch.int64, (7,))


def test_unshuffled_batches_mix_the_classes_so_that_a_limit_is_a_fair_sample(data):
    assert len(labels_of(data.test.batches(40, limit=40)).unique()) == 10


@pytest.mark.parametrize(("limit", "sizes"), [(10, [4, 4, 2]), (4, [4]), (3, [3])])
def test_limit_counts_images(data, limit, sizes):
    assert [len(labels) for _, labels in data.train.batches(4, limit=limit)] == sizes


def test_generator_shuffles_and_goes_on_from_epoch_to_epoch(data):
    generator = seeded()
    first, second = (labels_of(data.train.batches(64, generator=generator)) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, labels_of(data.train.batches(64, generator=seeded())))
    assert torch.equal(first.sort().values, data.train.labels.sort().values)


def test_splits_share_the_storage_of_their_images(data):
    assert data.train.pool is data.test.pool
    assert data.everything_but_test().pool is data.train.pool


def test_everything_but_test_is_just_that(data):
    everything = set(data.everything_but_test().indices.tolist())
    assert len(everything) == len(data.train) + len(data.search) + len(data.val)
    assert everything.isdisjoint(data.test.indices.tolist())


def test_what_judges_a_training_is_neither_trained_on_nor_the_test_split(data):
    judging = set(data.search_and_val().indices.tolist())
    assert len(judging) == len(data.search) + len(data.val)
    assert judging.isdisjoint([*data.train.indices.tolist(), *data.test.indices.tolist()])


def test_augmentation_varies_images_repeatably_and_keeps_the_labels(data):
    plain, labels = next(data.train.batches(200, generator=seeded()))
    varied, same_labels = next(data.train.batches(200, generator=seeded(), augment=True))
    again, _ = next(data.train.batches(200, generator=seeded(), augment=True))
    assert torch.equal(labels, same_labels)
    assert torch.equal(varied, again)
    share_unchanged = (varied == plain).flatten(1).all(1).float().mean()
    assert 0 < share_unchanged < 0.3, "one shift in nine is none"


def test_augmentation_without_a_generator_follows_torchs_global_seed(data):
    torch.manual_seed(5)
    one, _ = next(data.train.batches(20, augment=True))
    torch.manual_seed(5)
    two, _ = next(data.train.batches(20, augment=True))
    assert torch.equal(one, two)


def test_reading_twice_gives_the_same_because_batches_are_copies(data):
    images, _ = next(data.val.batches(5))
    images.zero_()
    assert next(data.val.batches(5))[0].abs().sum() > 0
