"""CIFAR-100 in the authors' layouts, the pictures made up."""

import numpy as np
import pytest
import torch

from pipeline.data import load_data
from pipeline.errors import DataError


@pytest.fixture
def folder(tmp_path):
    inner = tmp_path / "cifar-100-binary"
    inner.mkdir()
    for name, count in (("train.bin", 400), ("test.bin", 100)):
        records = np.random.RandomState(0).randint(0, 256, (count, 3074)).astype(np.uint8)
        records[:, 0], records[:, 1] = 7, np.arange(count) % 100
        (inner / name).write_bytes(records.tobytes())
    (inner / "fine_label_names.txt").write_text("\n".join(f"class_{i}" for i in range(100)) + "\n\n")
    return tmp_path


def test_fine_labels_and_their_names_are_read_from_either_folder(folder):
    data = load_data(f"cifar100:{folder}")
    assert data.classes == load_data(f"cifar100:{folder / 'cifar-100-binary'}").classes
    assert (len(data.classes), data.classes[42]) == (100, "class_42")
    content = np.fromfile(folder / "cifar-100-binary" / "test.bin", np.uint8).reshape(-1, 3074)
    position = data.test.indices[0]
    assert torch.equal(data.test.pool.read(position[None]).flatten(), torch.from_numpy(content[position, 2:]))
    assert data.test.labels[0] == content[position, 1]


def test_pictures_are_moved_by_four_pixels_and_mirrored(folder):
    pool = load_data(f"cifar100:{folder}").train.pool
    assert (pool.shift, pool.flip) == (4, True)


def test_does_not_open_pickles_whose_checksum_is_not_the_authors(tmp_path):
    (tmp_path / "cifar-100-python").mkdir()
    (tmp_path / "cifar-100-python" / "test").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(DataError, match=r"unpack cifar-100-python\.tar\.gz again"):
        load_data(f"cifar100:{tmp_path}")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("train.bin", bytes(3073), "3073 bytes; expected a multiple of 3074"),
        ("test.bin", b"\0\xff" + bytes(3072), "reach from 255 to 255; expected 0 to 99"),
        ("fine_label_names.txt", b"apple\n", "holds 1 names; expected 100"),
    ],
)
def test_broken_file_is_named(folder, name, content, said):
    (folder / "cifar-100-binary" / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        load_data(f"cifar100:{folder}")


def test_missing_training_file_and_empty_folder_are_named(folder, tmp_path_factory):
    (folder / "cifar-100-binary" / "train.bin").unlink()
    with pytest.raises(DataError, match=r"train\.bin has 0 bytes"):
        load_data(f"cifar100:{folder}")
    with pytest.raises(DataError, match="holds no CIFAR-100; expected"):
        load_data(f"cifar100:{tmp_path_factory.mktemp('empty')}")
