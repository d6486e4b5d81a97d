"""The augmentation of images in memory."""

import torch

from pipeline.data.pools import MemoryPool, shifted_and_flipped


def seeded():
    return torch.Generator().manual_seed(0)


def all_versions(image, shift, flip):
    """Every image that padding, cropping and mirroring one image can give, by plain slicing."""
    _, height, width = image.shape
    padded = torch.nn.functional.pad(image, (shift,) * 4)
    for mirrored in (False, True)[: 1 + flip]:
        for top in range(2 * shift + 1):
            for left in range(2 * shift + 1):
                crop = padded[:, top : top + height, left : left + width]
                yield crop.flip(2) if mirrored else crop


def test_each_image_is_one_of_the_possible_crops_and_all_of_them_come_up():
    image = torch.randint(1, 256, (3, 5, 4), dtype=torch.uint8, generator=seeded())
    drawn = shifted_and_flipped(image.expand(2000, 3, 5, 4), 1, True, seeded())
    possible = {tuple(version.flatten().tolist()) for version in all_versions(image, 1, True)}
    assert {tuple(one.flatten().tolist()) for one in drawn} == possible
    assert len(possible) == 18


def test_images_of_a_batch_are_not_mixed_up():
    images = torch.arange(8, dtype=torch.uint8)[:, None, None, None].expand(8, 2, 4, 4)
    varied = shifted_and_flipped(images, 2, True, seeded())
    for value, one in enumerate(varied):
        assert set(one.unique().tolist()) <= {0, value}


def test_no_shift_and_no_flip_change_nothing():
    images = torch.randint(0, 256, (4, 3, 6, 6), dtype=torch.uint8, generator=seeded())
    pool = MemoryPool(images, torch.zeros(4, dtype=torch.int64))
    assert torch.equal(pool.augmented(torch.arange(4), seeded()), images)


def test_the_pool_itself_is_never_changed():
    images = torch.randint(0, 256, (4, 3, 6, 6), dtype=torch.uint8, generator=seeded())
    before = images.clone()
    MemoryPool(images, torch.zeros(4, dtype=torch.int64), shift=2, flip=True).augmented(torch.arange(4), seeded())
    assert torch.equal(images, before)
