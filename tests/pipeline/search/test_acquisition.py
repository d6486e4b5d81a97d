from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from pipeline.predictors.accuracy import accuracy_of
from pipeline.search.acquisition import log_expected_gain, log_probability

CASES = [(0.0, 1.0, 0.85), (0.0, 0.6, 0.85), (0.4, 0.6, 0.85), (1.4, 0.3, 0.85), (2.0, 0.2, 0.85), (4.0, 0.5, 0.99)]
"""Mean and deviation of a logit, and the accuracy to beat."""


def one(value: float) -> np.ndarray:
    return np.array([value])


@pytest.mark.parametrize(("logit", "deviation", "needed"), CASES)
def test_the_probability_is_the_share_of_what_the_logit_may_be_that_is_better(
    logit: float, deviation: float, needed: float
) -> None:
    drawn = accuracy_of(np.random.default_rng(0).normal(logit, deviation, 4_000_000))
    found = float(np.exp(log_probability(one(logit), one(deviation), one(needed)))[0])
    assert found == pytest.approx(float(np.mean(drawn > needed)), rel=0.05)


@pytest.mark.parametrize(("logit", "deviation", "needed"), [*CASES, (-3.0, 0.3, 0.85), (3.0, 0.01, 0.5)])
def test_the_expected_gain_is_the_integral_of_what_is_gained(logit: float, deviation: float, needed: float) -> None:
    def gained(at: float) -> float:
        return float(accuracy_of(one(logit + deviation * at))[0] - needed) * float(norm.pdf(at))

    least = (np.log(needed / (1 - needed)) - logit) / deviation
    wanted, _ = quad(gained, max(least, -12.0), max(least, 0.0) + 12, epsabs=0, limit=200)
    found = float(np.exp(log_expected_gain(one(logit), one(deviation), one(needed)))[0])
    assert found == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("score", [log_probability, log_expected_gain])
def test_more_is_worth_more_and_the_farthest_is_a_number(score: object) -> None:
    needed = np.array([-50.0, -0.1, 0.3, 0.6, 0.9, 0.999])
    found = score(np.zeros(6), np.full(6, 0.5), needed)  # type: ignore[operator]
    assert (np.diff(found) < 0).all() or found[0] == found[1] == 0.0
    assert np.isfinite(score(np.zeros(2), np.full(2, 1e-3), np.array([0.9, 70.0]))).all()  # type: ignore[operator]


def test_what_is_impossible_counts_less_the_farther_it_is() -> None:
    found = log_probability(np.array([2.0, 1.0]), np.ones(2), np.array([1.2, 1.1]))
    assert found[0] < found[1]
