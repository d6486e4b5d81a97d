"""Image files of every mode, and the random crops of the training."""

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.data.image_io import CROP_AREA, FilePool, as_rgb, readable


def pool_of(tmp_path, image, count=1, **options):
    image.save(tmp_path / "image.png")
    return FilePool([tmp_path / "image.png"] * count, torch.zeros(count, dtype=torch.int64), 8, **options)


def test_sixteen_bit_grey_is_scaled_not_clipped():
    values = np.array([[0, 256, 65535]], dtype=np.uint16)
    assert np.asarray(as_rgb(Image.fromarray(values)))[0].tolist() == [[0] * 3, [1] * 3, [255] * 3]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_mode_becomes_three_channels(mode):
    assert as_rgb(Image.new(mode, (3, 2))).mode == "RGB"


def test_palette_with_a_table_of_transparencies_is_read_without_a_warning(tmp_path):
    image = Image.new("RGB", (4, 4), (9, 8, 7)).convert("P")
    image.save(tmp_path / "image.png", transparency=bytes(range(200)))
    pool = FilePool([tmp_path / "image.png"], torch.zeros(1), 4)
    assert pool.read(torch.tensor([0])).shape == (1, 3, 4, 4)


def test_random_crops_cover_a_quarter_to_all_of_the_image_and_mirror_half(tmp_path):
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (256, 1))).convert("RGB")
    crops = pool_of(tmp_path, ramp, 400).augmented(torch.arange(400), torch.Generator().manual_seed(0))[:, 0, 0].float()
    widths = (crops[:, -1] - crops[:, 0]).abs() / (255 * 7 / 8)  # between the centres of the outer of 8 pixels
    assert widths.max() < 1.03
    assert (CROP_AREA * 3 / 4) ** 0.5 - 0.03 < widths.min() < 0.55
    assert 0.4 < (crops[:, 0] > crops[:, -1]).float().mean() < 0.6


def test_small_pictures_are_moved_instead_of_scaled(tmp_path):
    values = np.arange(64, dtype=np.uint8).reshape(8, 8)
    pool = pool_of(tmp_path, Image.fromarray(values), 50, shift=2)
    moved = pool.augmented(torch.arange(50), torch.Generator().manual_seed(0))
    assert set(moved.unique().tolist()) <= set(range(64)), "no pixel is a mean of others"
    assert len(moved.unique(dim=0)) > 20


def test_a_path_that_is_no_utf8_can_be_printed():
    assert readable(b"caf\xe9.png".decode("utf-8", "surrogateescape")) == "caf\N{REPLACEMENT CHARACTER}.png"
