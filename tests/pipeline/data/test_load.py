"""From a spec to four splits: disjoint, stratified, the same every time."""

import hashlib

import pytest
import torch

from pipeline.data import load_data
from pipeline.errors import DataError


def parts(data):
    return [data.train, data.search, data.val, data.test]


def test_splits_are_disjoint_and_hold_every_image():
    indices = torch.cat([split.indices for split in parts(load_data("digits"))])
    assert sorted(indices.tolist()) == list(range(1797))


def test_sizes_are_a_fifth_for_the_test_and_a_tenth_of_the_rest_for_search_and_val():
    assert [len(split) for split in parts(load_data("digits"))] == [1438 - 288, 144, 144, 359]


def test_every_split_holds_the_classes_in_their_shares():
    data = load_data("digits")
    whole = torch.bincount(data.train.pool.labels) / 1797
    for split in parts(data):
        counts = torch.bincount(split.labels, minlength=10)
        assert (counts - whole * len(split)).abs().max() <= 1.5


def test_one_seed_gives_the_same_splits_on_every_machine():
    digest = hashlib.sha256()
    for split in parts(load_data("digits", seed=3)):
        digest.update(split.indices.numpy().tobytes())
    assert digest.hexdigest()[:16] == "8271c7f7ecd1b03c"


def test_another_seed_draws_other_search_images_but_never_other_test_images():
    one, two = load_data("digits", seed=1), load_data("digits", seed=2)
    assert set(one.search.indices.tolist()) != set(two.search.indices.tolist())
    assert torch.equal(one.test.indices, two.test.indices)


def test_negative_and_huge_seeds_are_fine():
    assert len(load_data("digits", seed=-1).search) == len(load_data("digits", seed=2**40).search)


def test_sizes_of_search_and_val_can_be_chosen():
    data = load_data("digits", search_images=300, val_images=50)
    assert (len(data.search), len(data.val)) == (300, 50)


@pytest.mark.parametrize(("search", "val"), [(0, 10), (10, -1), (600, 600)])
def test_splits_that_cannot_be_taken_are_refused(search, val):
    with pytest.raises(DataError, match=f"splits of {search} and {val} images cannot be taken from 1438"):
        load_data("digits", search_images=search, val_images=val)


@pytest.mark.parametrize(
    ("spec", "meant"), [("digit", "digits"), ("cifar", "cifar10"), ("fashion_mnist", "fashion-mnist")]
)
def test_unknown_data_names_the_nearest(spec, meant):
    with pytest.raises(DataError, match=f"unknown data '{spec}' .did you mean '{meant}'") as raised:
        load_data(spec)
    assert raised.value.exit_code == 2


def test_bare_folder_is_told_how_it_is_written(tmp_path):
    with pytest.raises(DataError, match=f"for a folder of images write imagefolder:{tmp_path}"):
        load_data(str(tmp_path))


def test_image_size_is_refused_where_images_are_not_scaled():
    with pytest.raises(DataError, match="digits images are 8x8 and are not scaled"):
        load_data("digits", image_size=32)


def test_a_networks_own_normalisation_replaces_the_data_sets_usual_one() -> None:
    usual, own = load_data("digits"), load_data("digits", mean=(0.5,), std=(0.25,))
    (a, _), (b, _) = (next(data.train.batches(4)) for data in (usual, own))
    pixels = a * usual.std[0] + usual.mean[0]
    torch.testing.assert_close(b, (pixels - 0.5) / 0.25)
    assert (own.mean, own.std) == ((0.5,), (0.25,))


def test_a_normalisation_for_other_channels_is_refused() -> None:
    with pytest.raises(DataError, match="std has 3 numbers; digits images have 1 channels"):
        load_data("digits", std=(0.2, 0.2, 0.2))
