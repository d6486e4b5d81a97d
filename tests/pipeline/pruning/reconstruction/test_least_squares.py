"""Least squares with a pull: what is missing becomes less, nothing changes where nothing is, and both forms agree."""

from __future__ import annotations

import pytest
import torch

from pipeline.pruning.reconstruction.least_squares import PULL, change

pytestmark = pytest.mark.usefixtures("one_thread")

READS = torch.randn(2, 50, 6, generator=torch.Generator().manual_seed(0))
TRUE = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(1))


def test_where_nothing_is_missing_nothing_changes() -> None:
    found = change(READS, torch.zeros(2, 50, 3), intercept=True)
    assert found is not None
    assert not found[0].any()
    assert not found[1].any()


def test_the_weaker_the_pull_the_nearer_weights_and_intercepts_come() -> None:
    missing = READS @ TRUE.mT + 2.0
    left = [float(missing.square().mean())]
    for pull in (0.3, 0.001):
        found = change(READS, missing, intercept=True, pull=pull)
        assert found is not None
        left.append(float((missing - READS @ found[0].mT - found[1][:, None]).square().mean()))
    assert left[0] > 5 * left[1] > 50 * left[2]
    torch.testing.assert_close(found[0], TRUE, rtol=0.02, atol=0.01)
    torch.testing.assert_close(found[1], torch.full((2, 3), 2.0), rtol=0.01, atol=0.01)


def test_without_an_intercept_there_is_none() -> None:
    found = change(READS, torch.ones(2, 50, 3), intercept=False)
    assert found is not None
    assert not found[1].any()


@pytest.mark.parametrize("places", [5, 6, 50])
def test_it_is_ridge_regression_whichever_of_places_and_inputs_is_more(places: int) -> None:
    reads, missing = READS[:1, :places], torch.randn(1, places, 3, generator=torch.Generator().manual_seed(2))
    found = change(reads, missing, intercept=False)
    assert found is not None
    x, pull = reads[0].double(), PULL * places * reads.square().mean().double()
    wanted = torch.linalg.solve(x.mT @ x + pull * torch.eye(6, dtype=torch.float64), x.mT @ missing[0].double())
    torch.testing.assert_close(found[0][0].mT.double(), wanted, rtol=1e-4, atol=1e-5)


def test_inputs_that_are_all_zero_leave_what_is_missing_to_the_intercept() -> None:
    found = change(torch.zeros_like(READS), torch.ones(2, 50, 3), intercept=True)
    assert found is not None
    assert not found[0].any()
    torch.testing.assert_close(found[1], torch.ones(2, 3))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
def test_of_what_is_not_finite_or_too_large_nothing_comes(value: float) -> None:
    reads = READS.clone()
    reads[1, 3, 2] = value
    assert change(reads, torch.ones(2, 50, 3), intercept=True) is None
