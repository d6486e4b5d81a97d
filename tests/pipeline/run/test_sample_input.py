"""A real test image beside a run's report, read by the bundle's runtime as training reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from deploy import runtime
from pipeline.data import DataSet, load_data
from pipeline.data.dataset import Split
from pipeline.data.pools import MemoryPool
from pipeline.run.sample_file import sample_of
from pipeline.run.sample_input import write_sample


def of_pool(images: torch.Tensor) -> DataSet:
    channels = images.shape[1]
    pool = MemoryPool(images, torch.zeros(len(images), dtype=torch.int64))
    split = Split(pool, torch.arange(len(images)), (0.5,) * channels, (0.2,) * channels)
    return DataSet(
        name="made", classes=("a",), shape=tuple(images.shape[1:]), mean=split.mean, std=split.std,
        train=split, search=split, val=split, test=split,
    )  # fmt: skip


def test_a_sample_of_the_digits_is_read_as_the_test_split_reads_it(tmp_path: Path) -> None:
    data = load_data("digits")
    path = write_sample(data, tmp_path)
    assert path == sample_of(tmp_path) == tmp_path / "sample.png"
    fed = {"shape": list(data.shape), "normalisation": {"mean": list(data.mean), "std": list(data.std)},
           "resize": None, "interpolation": "bilinear", "kind": "image"}  # fmt: skip
    found = runtime.open_input(str(path), fed)
    expected = data.test.pool.read(data.test.indices[:1])[0].numpy()
    np.testing.assert_array_equal(np.asarray(found).reshape(expected.shape), expected)


def test_a_colour_image_and_a_signal_are_kept_as_they_are(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    colour = torch.randint(0, 256, (2, 3, 9, 7), generator=random, dtype=torch.uint8)
    path = write_sample(of_pool(colour), tmp_path)
    from PIL import Image

    assert path is not None
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(image).transpose(2, 0, 1), colour[0].numpy())
    (tmp_path / "signal").mkdir()
    signal = torch.randn(2, 4, 50, generator=random)
    path = write_sample(of_pool(signal), tmp_path / "signal")
    assert path is not None
    np.testing.assert_array_equal(np.load(path), signal[0].numpy())


def test_channels_that_no_picture_holds_leave_no_sample(tmp_path: Path) -> None:
    assert write_sample(of_pool(torch.zeros(1, 5, 4, 4, dtype=torch.uint8)), tmp_path) is None
    assert sample_of(tmp_path) is None
