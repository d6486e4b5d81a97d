"""Structures of tensors: the parts of a batch, by place and by example."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline import structures


def test_examples_are_taken_from_every_part() -> None:
    batch = (torch.arange(6), {"boxes": [1, 2, 3, 4, 5, 6], "labels": torch.arange(6) * 2})
    some = structures.part(batch, 2, 4)
    assert some[0].tolist() == [2, 3]
    assert some[1]["boxes"] == [3, 4]
    assert some[1]["labels"].tolist() == [4, 6]


def test_what_is_taken_apart_is_joined_again() -> None:
    batch = (torch.arange(6), {"boxes": [1, 2, 3, 4, 5, 6]})
    whole = structures.joined([structures.part(batch, start, start + 2) for start in (0, 2, 4)])
    assert torch.equal(whole[0], batch[0])
    assert whole[1] == batch[1]


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([torch.zeros(1, 2), torch.zeros(1, 3)], "let a list hold what has another size in each example"),
        ([torch.zeros(1), [0]], "batches are of different kinds: Tensor, list"),
        (["one", "two"], "batches hold a str; expected tensors, lists, tuples or dictionaries"),
    ],
)
def test_batches_that_do_not_fit_together_are_refused(batches: list[Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        structures.joined(batches)


def test_a_network_is_called_with_each_of_its_inputs() -> None:
    def network(a: torch.Tensor, b: torch.Tensor) -> Any:
        return [a + b, {"b": b}]

    one, two = torch.ones(3, 1), torch.ones(3, 1) * 2
    answer = structures.answer(network, (one, two))
    assert isinstance(answer, tuple)
    assert list(structures.tensors(answer)) == [(0,), (1, "b")]
    assert structures.count((one, two)) == 3
