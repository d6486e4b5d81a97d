"""A data set that is written is read back as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.data import load_data
from pipeline.data.conditions import parse_condition, under
from pipeline.data.writing import write_data
from pipeline.errors import OutputError


def test_cifar_under_a_condition_is_read_back_image_by_image(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0)
    (tmp_path / "cifar").mkdir()
    for name in ("train_0", "test"):
        pixels = drawn.integers(0, 255, (100, 32, 32, 3)).astype(np.uint8)
        np.savez(tmp_path / "cifar" / f"{name}.npz", x=pixels, y=np.arange(100) % 10)
    night = under(load_data(f"cifar10:{tmp_path / 'cifar'}"), parse_condition("night:3"), seed=4)
    again = load_data(write_data(night, tmp_path / "night"))
    every = torch.arange(100)
    assert (again.test.pool.read(every) == night.test.pool.read(every)).all()
    assert (again.train.pool.read(every) == night.train.pool.read(every)).all()
    assert (again.train.pool.labels == night.train.pool.labels).all()


def test_other_images_become_files_by_class(tmp_path: Path) -> None:
    digits = load_data("digits")
    spec = write_data(digits, tmp_path / "out")
    again = load_data(spec, image_size=8)
    assert spec == f"imagefolder:{tmp_path / 'out'}"
    assert again.classes == digits.classes
    assert len(again.test) == len(digits.test)
    assert again.test.labels.bincount().tolist() == digits.test.labels.bincount().tolist()
    with pytest.raises(OutputError, match="not empty"):
        write_data(digits, tmp_path / "out")
