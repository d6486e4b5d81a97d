from __future__ import annotations

import numpy as np
import pytest

from pipeline.measurement.intervals import NORMAL_95
from pipeline.predictors.gaussian_process import CostProcess, Scales

PRIOR = Scales(linear=1.0, smooth=1.0, noise=0.3)


def world(plans: int, seed: int = 0, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, true values and noisy ones: features cost by themselves, and two of them together."""
    rng = np.random.default_rng(seed)
    features = rng.uniform(0, 1, (plans, 6))
    true = features @ np.array([1.0, 0.5, 0.0, -0.4, 0.2, 0.8]) + 0.8 * features[:, 0] * features[:, 1]
    return features, true, true + rng.normal(0, noise, plans)


def test_it_finds_what_features_cost_and_what_they_do_together() -> None:
    features, true, noisy = world(260)
    process = CostProcess(PRIOR)
    process.fit(features[:60], noisy[:60])
    error = process.mean(features[60:]) - true[60:]
    assert np.sqrt(np.mean(error**2)) < 0.08
    assert np.std(true[60:]) > 0.4


@pytest.mark.parametrize("known", [10, 60])
def test_its_intervals_hold_nineteen_of_twenty_new_measurements_however_noisy_they_are(known: int) -> None:
    held = []
    for seed in range(12):
        features, _, noisy = world(known + 200, seed, noise=(0.05, 0.2, 0.5)[seed % 3])
        process = CostProcess(PRIOR)
        process.fit(features[:known], noisy[:known])
        mean, deviation = process.predict(features[known:])
        held.append(np.mean(np.abs(mean - noisy[known:]) < NORMAL_95 * deviation))
    assert 0.90 < np.mean(held) < 0.98


def test_before_anything_is_known_its_doubt_grows_with_the_features() -> None:
    mean, deviation = CostProcess(PRIOR).predict(np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 2.0]]))
    assert mean.tolist() == [0.0, 0.0, 0.0]
    assert 1.0 < deviation[0] < deviation[1] < deviation[2]


def test_the_cheap_mean_is_the_same() -> None:
    features, _, noisy = world(30)
    process = CostProcess(PRIOR)
    process.fit(features, noisy)
    assert process.mean(features).tolist() == pytest.approx(process.predict(features)[0].tolist())


def test_the_mean_of_features_put_together_of_two_parts_is_that_of_the_whole() -> None:
    features, _, noisy = world(30)
    process, at = CostProcess(PRIOR), np.array([False, True, False, False, True, True])
    assert process.mean_of_pairs(features, features[:4], at).tolist() == np.zeros((30, 4)).tolist()
    process.fit(features, noisy)
    whole = np.where(at, features[None, :4], features[:, None])
    expected = process.mean(whole.reshape(-1, 6)).reshape(30, 4)
    np.testing.assert_allclose(process.mean_of_pairs(features, features[:4], at), expected)


def test_values_that_are_all_the_same_are_no_trouble() -> None:
    process = CostProcess(PRIOR)
    process.fit(np.ones((20, 3)), np.full(20, 0.7))
    assert process.mean(np.ones((1, 3)))[0] == pytest.approx(0.7, abs=0.05)
