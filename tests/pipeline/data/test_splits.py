"""Splits outlive the run that drew them, and refuse data that has changed."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from pipeline.data import load_data, read_splits
from pipeline.data.splits import content
from pipeline.errors import DataError


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pets"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (9, 9), (i, 0, 0)).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def stored(folder, tmp_path):
    (tmp_path / "splits").write_bytes(load(folder).splits.to_bytes())
    return read_splits(tmp_path / "splits")


def load(folder, **options):
    return load_data(f"imagefolder:{folder}", image_size=8, **options)


def indices(data):
    return [part.indices.tolist() for part in (data.train, data.search, data.val, data.test)]


def test_stored_splits_come_back_and_beat_another_seed(folder, stored):
    assert (
        indices(load(folder, seed=5, splits=stored)) == indices(load(folder, seed=0)) != indices(load(folder, seed=5))
    )


def test_a_data_set_that_was_moved_is_the_same(folder, stored):
    folder.rename(folder.with_name("animals"))
    assert indices(load(folder.with_name("animals"), splits=stored)) == [p.tolist() for p in (
        stored.train, stored.search, stored.val, stored.test)]  # fmt: skip


def test_an_image_more_or_less_is_refused_with_both_counts(folder, stored):
    (folder / "cat" / "3.png").unlink()
    with pytest.raises(DataError, match=r"imagefolder holds 19 images, and held 20 .*start a new run") as raised:
        load(folder, splits=stored)
    assert raised.value.exit_code == 2


def test_other_labels_of_as_many_images_are_refused(folder, stored):
    (folder / "cat" / "3.png").rename(folder / "dog" / "other.png")
    with pytest.raises(DataError, match=r"as many images .*but other labels"):
        load(folder, splits=stored)


def test_renamed_files_whose_order_may_differ_are_refused(folder, stored):
    (folder / "cat" / "3.png").rename(folder / "cat" / "99.png")
    with pytest.raises(DataError, match="classes or file names"):
        load(folder, splits=stored)


def test_other_pictures_under_the_same_names_are_refused(folder, stored):
    Image.new("RGB", (90, 70), (3, 1, 4)).save(folder / "cat" / "3.png")
    with pytest.raises(DataError, match=r"imagefolder has other pictures .*put them back"):
        load(folder, splits=stored)


def test_pictures_in_memory_are_known_by_every_pixel():
    from pipeline.data.source import SourceOptions
    from pipeline.data.sources.digits import load as digits

    source, other = digits("", SourceOptions()), digits("", SourceOptions())
    assert content(source) == content(other)
    other.train.images[7, 0, 2, 3] += 1
    assert content(source) != content(other)


def test_splits_that_an_older_version_stored_are_taken_as_they_are(folder, stored):
    older = replace(stored, content="")
    Image.new("RGB", (90, 70), (3, 1, 4)).save(folder / "cat" / "3.png")
    assert indices(load(folder, splits=older)) == indices(load(folder, seed=0))


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "splits").write_bytes(b"nothing")
    with pytest.raises(DataError, match="stored splits cannot be read"):
        read_splits(tmp_path / "splits")


def test_digits_keep_theirs_too(tmp_path):
    data = load_data("digits", seed=3)
    (tmp_path / "splits").write_bytes(data.splits.to_bytes())
    again = load_data("digits", seed=3, splits=read_splits(tmp_path / "splits"))
    assert torch.equal(again.train.indices, data.train.indices)
