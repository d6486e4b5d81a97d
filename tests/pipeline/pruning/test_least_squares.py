"""Weights by least squares: they come near what is wanted, stay where nothing is missing, and both forms agree."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.pruning import least_squares
from pipeline.pruning.least_squares import fitted

pytestmark = pytest.mark.usefixtures("one_thread")

DRAW = torch.Generator().manual_seed(0)
READS = torch.randn(2, 50, 6, generator=DRAW)
WEIGHTS = torch.randn(2, 3, 6, generator=DRAW)


def missed(wanted: Tensor, weights: Tensor, intercept: Tensor) -> float:
    return float((wanted - READS @ weights.mT - intercept[:, None]).square().mean())


def test_weights_that_answer_as_wanted_stay() -> None:
    found = fitted(READS, READS @ WEIGHTS.mT + 2.0, WEIGHTS, intercept=True)
    assert found is not None
    torch.testing.assert_close(found[0], WEIGHTS)
    torch.testing.assert_close(found[1], torch.full((2, 3), 2.0))


def test_the_more_is_read_the_nearer_the_weights_come_to_what_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    other = WEIGHTS + torch.randn(WEIGHTS.shape, generator=torch.Generator().manual_seed(1))
    wanted = READS @ other.mT + 1.0
    misses = [missed(wanted, WEIGHTS, torch.zeros(2, 3))]
    for pull in (0.3, 0.001):
        monkeypatch.setattr(least_squares, "_PULL", pull)
        found = fitted(READS, wanted, WEIGHTS, intercept=True)
        assert found is not None
        misses.append(missed(wanted, *found))
    assert misses[0] > 5 * misses[1] > 50 * misses[2]
    torch.testing.assert_close(found[0], other, rtol=0.02, atol=0.01)


def test_without_an_intercept_there_is_none() -> None:
    found = fitted(READS, READS @ WEIGHTS.mT + 2.0, WEIGHTS, intercept=False)
    assert found is not None
    assert not found[1].any()


@pytest.mark.parametrize("places", [5, 6, 50])
def test_it_is_ridge_regression_whichever_of_places_and_inputs_is_more(places: int) -> None:
    reads, wanted = READS[:1, :places], torch.randn(1, places, 3, generator=torch.Generator().manual_seed(2))
    found = fitted(reads, wanted, WEIGHTS[:1], intercept=False)
    assert found is not None
    x, pull = reads[0].double(), 0.3 * places * reads.square().mean().double()
    missing = wanted[0].double() - x @ WEIGHTS[0].double().mT
    change = torch.linalg.solve(x.mT @ x + pull * torch.eye(6, dtype=torch.float64), x.mT @ missing)
    torch.testing.assert_close((found[0] - WEIGHTS[:1])[0].mT.double(), change, rtol=1e-4, atol=1e-5)


def test_inputs_that_are_all_zero_leave_the_weights_alone() -> None:
    found = fitted(torch.zeros_like(READS), torch.ones(2, 50, 3), WEIGHTS, intercept=True)
    assert found is not None
    torch.testing.assert_close(found[0], WEIGHTS)
    torch.testing.assert_close(found[1], torch.ones(2, 3))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_of_what_is_not_finite_nothing_comes(value: float) -> None:
    reads = READS.clone()
    reads[1, 3, 2] = value
    assert fitted(reads, READS @ WEIGHTS.mT, WEIGHTS, intercept=True) is None
