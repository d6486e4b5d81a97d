"""Examples of tasks that are no classification: read once, checked, batched, varied for training alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.data import DataSet, load_data
from pipeline.errors import DataError
from pipeline.objective.load import load_task
from pipeline.objective.task import Task

PAIRS = """
import torch


class Pairs(torch.utils.data.Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, i):
        return (torch.full((1, 4, 4), i, dtype=torch.uint8), torch.tensor([i / 10, 1.0])), torch.tensor([float(i)])


class Augmented(Pairs):
    def augment(self, inputs, target, generator):
        picture, facts = inputs
        return (picture, facts + torch.rand(1, generator=generator)), target


class Boxes(Pairs):
    classes = ["background", "thing"]

    def __getitem__(self, i):
        return torch.full((3, 4, 4), i, dtype=torch.uint8), {"boxes": torch.zeros(i % 3, 4), "labels": [1] * (i % 3)}


class Uneven(Pairs):
    def __getitem__(self, i):
        return torch.zeros(1, 4 + (i == 5), 4), torch.zeros(1)


class Random(Pairs):
    def __getitem__(self, i):
        return torch.rand(1, 4, 4), torch.zeros(1)


class Broken(Pairs):
    def __getitem__(self, i):
        if i == 3:
            raise OSError("bad block")
        return super().__getitem__(i)


class Late(Pairs):
    def __getitem__(self, i):
        return (torch.zeros(2), torch.zeros(1, 4, 4, dtype=torch.uint8)), torch.zeros(1)


class Nothing(Pairs):
    def __getitem__(self, i):
        return torch.tensor([float("nan")]), 1.0
"""


@pytest.fixture
def load(tmp_path: Path) -> Any:
    file = tmp_path / "pairs.py"
    file.write_text(PAIRS)

    def loaded(name: str, task: Task | None = None, **options: Any) -> DataSet:
        return load_data(f"dataset:{file}:{name}", task=task or load_task("regression"), **options)

    return loaded


def test_inputs_come_as_a_tuple_pixels_normalised_and_numbers_as_they_are(load: Any) -> None:
    data = load("Pairs", mean=[0.5], std=[0.25])
    assert (data.shape, data.more_shapes, data.classes) == ((1, 4, 4), ((2,),), ())
    (pictures, facts), targets = next(data.train.batches(5))
    assert (pictures.shape, facts.shape, targets.shape) == ((5, 1, 4, 4), (5, 2), (5, 1))
    assert torch.allclose(pictures[:, 0, 0, 0], (targets[:, 0] / 255 - 0.5) / 0.25)
    assert torch.allclose(facts[:, 0], targets[:, 0] / 10)


def test_every_example_is_in_one_split_and_the_same_for_one_seed(load: Any) -> None:
    one, other = load("Pairs", seed=1), load("Pairs", seed=1)
    parts = [[t for _, targets in part.batches(7) for t in targets[:, 0].tolist()]
             for part in (one.train, one.search, one.val, one.test)]  # fmt: skip
    assert sorted(value for part in parts for value in part) == [float(i) for i in range(40)]
    assert torch.equal(one.splits.search, other.splits.search)  # type: ignore[union-attr]


def test_examples_are_varied_by_the_data_set_s_own_function_for_training_alone(load: Any) -> None:
    data = load("Augmented")
    generator = torch.Generator().manual_seed(0)
    (_, varied), targets = next(data.train.batches(8, generator=generator, augment=True))
    (_, plain), _ = next(data.train.batches(8))
    assert not torch.allclose(varied[:, 0], targets[:, 0] / 10)
    assert torch.equal(plain, next(data.train.batches(8))[0][1])


def test_targets_of_any_structure_are_batched_by_the_task(load: Any) -> None:
    from types import SimpleNamespace

    from pipeline.objective.task import task_of

    task = task_of(SimpleNamespace(METRIC="m", loss=print, metric=print, collate=list), "boxes")
    data = load("Boxes", task)
    assert (data.classes, len(data.mean)) == (("background", "thing"), 3)
    inputs, targets = next(data.train.batches(4))
    assert inputs.shape == (4, 3, 4, 4)
    assert [len(target["labels"]) for target in targets] == [len(target["boxes"]) for target in targets]


def test_data_that_have_changed_are_noticed(load: Any, tmp_path: Path) -> None:
    splits = load("Pairs").splits
    (tmp_path / "pairs.py").write_text(PAIRS.replace("torch.tensor([float(i)])", "torch.tensor([i + 1.0])"))
    with pytest.raises(DataError, match="the data has changed"):
        load_data(f"dataset:{tmp_path / 'pairs.py'}:Pairs", task=load_task("regression"), splits=splits)


def test_what_cannot_be_read_is_skipped_as_far_as_is_allowed(load: Any) -> None:
    assert load("Broken", max_unreadable=1).skipped == ("train item 3: OSError: bad block (pairs.py, line 39)",)
    with pytest.raises(DataError, match="max_unreadable: 1"):
        load("Broken")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Uneven", "item 5 and the first one have inputs of 1x5x4 and 1x4x4"),
        ("Random", r"other inputs at the second reading; .*augment\(inputs, target, generator\)"),
        ("Late", "images .uint8. that are normalised come first"),
        ("Nothing", "item 0: an input holds NaN or infinite values"),
    ],
)
def test_examples_that_no_network_takes_are_refused(load: Any, name: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load(name)
