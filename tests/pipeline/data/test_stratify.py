"""Drawing a part class by class."""

import pytest
import torch

from pipeline.data.stratify import draw

LABELS = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)


@pytest.mark.parametrize(("images", "counts"), [(10, [7, 2, 1]), (50, [35, 10, 5]), (15, [11, 3, 1]), (4, [3, 1, 1])])
def test_each_class_gives_its_share_and_at_least_one(images, counts):
    part, rest = draw(LABELS, images, seed=0)
    assert torch.bincount(LABELS[part]).tolist() == counts
    assert sorted(part.tolist() + rest.tolist()) == list(range(100))


def test_a_class_keeps_what_is_to_be_left():
    part, rest = draw(torch.tensor([0] * 10 + [1] * 3), 10, seed=0, leave=2)
    assert torch.bincount(torch.tensor([0] * 10 + [1] * 3)[rest])[1] == 2
    assert len(part) + len(rest) == 13


def test_the_drawn_order_is_mixed():
    part, _ = draw(LABELS, 50, seed=0)
    assert LABELS[part].tolist() != sorted(LABELS[part].tolist())
