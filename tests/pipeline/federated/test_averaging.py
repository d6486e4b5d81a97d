"""Federated averaging: by trials, within bounds, and no site carries the others away."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.federated.averaging import CLIP, MOST, Update, average, bounded_shares

BEFORE = {"w": np.zeros((2, 3), np.float32), "b": np.ones(2, np.float32)}


def update(site: str, change: float, trials: int = 10) -> Update:
    return Update(
        site=site, weights={name: values + np.float32(change) for name, values in BEFORE.items()}, trials=trials
    )


def test_the_mean_is_weighted_by_trials() -> None:
    found = average(BEFORE, [update("a", 1.0, trials=10), update("b", 1.5, trials=30)])
    assert found.shares == {"a": 0.25, "b": 0.75}
    assert found.weights["w"] == pytest.approx(1.375)
    assert found.weights["b"] == pytest.approx(2.375)
    assert found.weights["w"].dtype == np.float32
    assert found.clipped == ()


def test_equal_updates_are_their_own_mean() -> None:
    found = average(BEFORE, [update(site, 0.3) for site in "abc"])
    assert found.weights["w"] == pytest.approx(0.3)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=8))
def test_shares_add_up_and_none_is_more_than_its_bound(trials: list[int]) -> None:
    shares = bounded_shares(trials)
    assert sum(shares) == pytest.approx(1)
    assert all(0 <= share <= min(1, MOST / len(trials)) + 1e-9 for share in shares)


def test_a_site_that_claims_a_million_trials_is_no_more_than_half_of_three() -> None:
    found = average(BEFORE, [update("a", 1.0), update("b", 1.0), update("liar", 1.0, trials=1_000_000)])
    assert found.shares["liar"] == pytest.approx(0.5)


def test_a_change_far_beyond_the_others_is_scaled_down() -> None:
    found = average(BEFORE, [update("a", 0.1), update("b", 0.1), update("far", -1000.0)])
    assert found.clipped == ("far",)
    assert found.weights["w"] == pytest.approx((0.1 + 0.1 - CLIP * 0.1) / 3, abs=1e-6)


def test_a_site_that_changed_nothing_bounds_nobody() -> None:
    found = average(BEFORE, [update("idle", 0.0), update("a", 0.2)])
    assert found.clipped == ()
    assert found.weights["w"] == pytest.approx(0.1)
