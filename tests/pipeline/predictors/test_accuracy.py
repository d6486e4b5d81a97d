from __future__ import annotations

import numpy as np
import pytest
from _common.toys import all_plans, problem, truth

from pipeline.predictors.accuracy import AccuracyModel, accuracy_of

BASE = 0.92
SPACE = problem((1,) * 5, seed=1).space


def sampled(plans: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Plans to learn from and others, with their true accuracies."""
    told = problem((1,) * 5, seed=1)
    everything = all_plans(told)
    np.random.default_rng(seed).shuffle(everything)
    accuracy = truth(told)
    return (
        everything[:plans],
        accuracy(everything[:plans]),
        everything[plans : plans + 200],
        accuracy(everything[plans : plans + 200]),
    )


def fitted(plans: int) -> tuple[AccuracyModel, np.ndarray, np.ndarray]:
    seen, accuracies, others, wanted = sampled(plans)
    model = AccuracyModel(SPACE, BASE, 1000)
    model.fit(seen.tolist(), accuracies.tolist())
    return model, others, wanted


def test_before_anything_is_known_deeper_cuts_are_expected_to_answer_worse() -> None:
    model = AccuracyModel(SPACE, BASE, 1000)
    whole, half, deep = model.expected(np.array([[0] * 5, [2] * 5, [4] * 5]))
    assert whole == pytest.approx(BASE)
    assert whole > half > deep


def test_it_learns_and_more_plans_make_it_better() -> None:
    errors = []
    for plans in (5, 15, 50):
        model, others, wanted = fitted(plans)
        errors.append(float(np.abs(model.expected(others) - wanted).mean()))
    assert errors[2] < 0.03
    assert errors[2] < errors[1] < errors[0]


def test_it_knows_about_how_sure_it_is() -> None:
    model, others, wanted = fitted(30)
    mean, deviation = model.predict(others)
    inside = np.abs(mean - np.log(wanted / (1 - wanted))) <= 2 * deviation
    assert 0.8 <= inside.mean() <= 1.0
    assert deviation.mean() < 1.0


def test_the_quick_expectation_is_the_predictions_mean() -> None:
    model, others, _ = fitted(30)
    np.testing.assert_allclose(model.expected(others), accuracy_of(model.predict(others)[0]), rtol=1e-9)


def test_growing_by_one_plan_at_a_time_ends_where_learning_all_at_once_does() -> None:
    seen, accuracies, others, wanted = sampled(40)
    model = AccuracyModel(SPACE, BASE, 1000)
    for count in range(5, 41):
        model.fit(seen[:count].tolist(), accuracies[:count].tolist())
    assert np.abs(model.expected(others) - wanted).mean() < 0.04


def test_what_it_is_surprised_by_is_as_much_as_it_says_also_beside_single_cuts_near_full_accuracy() -> None:
    told = problem((1,) * 5, seed=1, base_accuracy=0.995)
    rng, plans = np.random.default_rng(0), all_plans(told)
    share = truth(told)(plans)
    share = 1 / (1 + (1 - share) / share * np.exp(-2.5))  # as good as a network that has seen these images
    seen = [*np.flatnonzero((plans > 0).sum(1) == 1)[:12], *rng.permutation(np.flatnonzero(share < 0.9))[:30]]
    model = AccuracyModel(SPACE, 0.995, 1000)
    model.fit(plans[seen].tolist(), (rng.binomial(1000, share[seen]) / 1000).tolist())
    others = np.setdiff1d(np.flatnonzero((share > 0.2) & (share < 0.9)), seen)
    mean, deviation = model.predict(plans[others])
    surprise = (np.log(share[others] / (1 - share[others])) - mean) / deviation
    assert 0.4 < surprise.std() < 1.5


@pytest.mark.slow
def test_its_doubt_is_scaled_by_how_far_the_plans_before_were_off_what_was_predicted_of_them() -> None:
    scaled, unscaled = [], []
    for seed in range(3):
        told = problem((1,) * 5, seed=seed)
        plans = np.random.default_rng(seed).permutation(all_plans(told))[:60]
        accuracy, model = truth(told)(plans), AccuracyModel(told.space, BASE, 1000)
        for known in range(10, 60):
            model.fit(plans[:known].tolist(), accuracy[:known].tolist())
            mean, deviation = model.predict(plans[known : known + 1])
            share = accuracy[known : known + 1]
            off = (np.log(share / (1 - share)) - mean) / deviation
            scaled.extend(off.tolist())
            unscaled.extend((off * model.surprise.scale).tolist())
    nearer, farther = (abs(np.log(np.sqrt(np.mean(np.square(part))))) for part in (scaled, unscaled))
    assert nearer < farther
    assert nearer < 0.3


def test_believing_what_is_expected_moves_no_expectation_and_takes_the_doubt_from_what_is_near() -> None:
    model, others, _ = fitted(20)
    before, doubt = model.predict(others)
    model.believe(others[:1].tolist())
    after, less = model.predict(others)
    np.testing.assert_allclose(after, before, atol=0.02)
    assert less[0] < 0.9 * doubt[0]
    assert (less <= doubt + 1e-6).all()


def test_a_block_that_goes_is_one_change_however_many_groups_it_has() -> None:
    model = AccuracyModel(problem((3, 1)).space, BASE, 1000)
    three, one = model.mean(np.array([[4, 4, 4, 0], [0, 0, 0, 4]]))
    assert three == pytest.approx(one)


@pytest.mark.parametrize("accuracies", [[0.0], [1.0], [0.1] * 12, [0.0, 1.0]])
def test_extreme_and_equal_accuracies_are_no_trouble(accuracies: list[float]) -> None:
    model = AccuracyModel(problem((1, 1)).space, 1.0, 100)
    levels = [[i % 5, (i + 1) % 5] for i in range(len(accuracies))]
    model.fit(levels, accuracies)  # warnings are errors here
    mean, deviation = model.predict(np.array([[0, 0], [2, 3]]))
    assert np.isfinite(mean).all()
    assert np.isfinite(deviation).all()
    assert ((model.expected(np.array([[0, 0], [2, 3]])) >= 0) & (model.expected(np.array([[0, 0]])) <= 1)).all()
