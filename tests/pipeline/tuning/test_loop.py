"""Grid and Optuna on a made-up run: what they try, what they find, and that a tuning goes on where it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.errors import ConfigError
from pipeline.tuning.loop import key_of, tune
from pipeline.tuning.objective import Outcome, ranked, value_of
from pipeline.tuning.ranges import parse_all
from pipeline.tuning.samplers import method_of
from pipeline.tuning.settings import Settings

SEARCHED = parse_all(["reward.alpha=0:2", "reward.gamma=0,0.02,0.1", "strategy_options.n_step=1:5"])


def hill(settings: Settings) -> Outcome:
    """Best at α = 1.5, γ = 0.02, n = 2; where α is small, nothing meets the targets."""
    alpha, gamma, steps = settings["reward.alpha"], settings["reward.gamma"], settings["strategy_options.n_step"]
    found = None if alpha < 0.4 else 1 - (alpha - 1.5) ** 2 - 5 * abs(gamma - 0.02) - 0.1 * abs(steps - 2)
    failure = None if found is not None else "no candidate meets latency=0.5x"
    return Outcome(run=f"a{alpha}g{gamma}n{steps}", settings=settings, accuracy=found, latency=alpha, failure=failure)


def remembering(known: dict[object, Outcome], run: Callable[[Settings], Outcome], asked: list[Settings]) -> Callable:
    def ask(settings: Settings) -> Outcome:
        if key_of(settings) not in known:
            asked.append(settings)
            known[key_of(settings)] = run(settings)
        return known[key_of(settings)]

    return ask


def test_a_grid_tries_every_combination_once() -> None:
    grid, budget = method_of("grid", SEARCHED, None, 0)
    outcomes = tune(grid, hill, "accuracy", budget)
    assert len({key_of(outcome.settings) for outcome in outcomes}) == len(outcomes) == budget == 3 * 3 * 3
    assert list(outcomes[1].settings.values()) == [0.0, 0.0, 3]  # the last one changes fastest


def test_a_grid_larger_than_its_budget_is_refused_with_its_size() -> None:
    with pytest.raises(ConfigError, match=r"3 × 3 × 3 = 27 points, and --runs-budget allows 26"):
        method_of("grid", SEARCHED, 26, 0)


def test_optuna_comes_nearer_the_optimum_than_its_first_ten_random_ones() -> None:
    method, budget = method_of("optuna", SEARCHED, 40, 0)
    outcomes = tune(method, hill, "accuracy", budget)
    assert len(outcomes) == 40
    random, all_of_them = (value_of(ranked(part, "accuracy")[0], "accuracy") for part in (outcomes[:10], outcomes))
    assert all_of_them > max(0.9, random)
    assert any(not outcome.feasible for outcome in outcomes)  # they were learnt from, too


def test_the_same_seed_asks_for_the_same_settings_and_a_killed_tuning_goes_on_with_nothing_run_twice() -> None:
    known: dict[object, Outcome] = {}
    first: list[Settings] = []
    tune(method_of("optuna", SEARCHED, 12, 3)[0], remembering(known, hill, first), "accuracy", 12)
    again: list[Settings] = []
    whole = tune(method_of("optuna", SEARCHED, 20, 3)[0], remembering(known, hill, again), "accuracy", 20)
    straight = tune(method_of("optuna", SEARCHED, 20, 3)[0], hill, "accuracy", 20)
    assert [o.settings for o in whole] == [o.settings for o in straight] == first + again
    other = tune(method_of("optuna", SEARCHED, 12, 4)[0], hill, "accuracy", 12)
    assert [o.settings for o in other] != first


def test_optuna_ends_where_a_few_lists_have_nothing_new() -> None:
    few = parse_all(["reward.alpha=1,2", "reward.gamma=0,0.1", "strategy_options.n_step=1,2"])
    method, budget = method_of("optuna", few, 30, 0)
    assert budget == 8
    assert len(tune(method, hill, "accuracy", budget)) <= 8


def test_the_best_is_the_highest_accuracy_or_the_lowest_figure_among_runs_that_meet_the_targets() -> None:
    outcomes = [hill({"reward.alpha": a, "reward.gamma": 0.02, "strategy_options.n_step": 2}) for a in (0.2, 0.5, 1.5)]
    assert [o.settings["reward.alpha"] for o in ranked(outcomes, "accuracy")] == [1.5, 0.5, 0.2]
    assert [o.settings["reward.alpha"] for o in ranked(outcomes, "latency")] == [0.5, 1.5, 0.2]
    with pytest.raises(ConfigError, match="no power sensor"):
        ranked(outcomes, "energy")
