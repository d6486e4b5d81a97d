from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from _common.toys import optimum, play, problem, trial_of

from pipeline.config import RunConfig
from pipeline.predictors.cost_model import CostModel
from pipeline.pruning.surgery.weight_sparsity import THRESHOLDS, Spread, density
from pipeline.records import LEVELS, PruningPlan, Trial
from pipeline.search.purl import filter_thresholds
from pipeline.search.purl.episodes import Episodes, Settings, Transition
from pipeline.search.purl.filter_thresholds import Filters
from pipeline.search.purl.weight_thresholds import SingleWeights
from pipeline.search.strategies import purl
from pipeline.search.strategy import Problem
from tests.examples import candidate
from tests.pipeline.search.strategies import peers

# ---------------------------------------------------------------- whole filters


@pytest.mark.slow
@pytest.mark.parametrize("check", [
    peers.check_seeds, peers.check_no_repeats, peers.check_hardships, peers.check_lookahead,
])  # fmt: skip
def test_it_does_what_every_strategy_has_to(check: Callable[[ModuleType], None]) -> None:
    check(purl)


def test_each_step_of_an_episode_is_a_trial_and_the_last_meets_the_target() -> None:
    told = problem((1,) * 4, trials=20)
    strategy = purl.create(told)
    plans = []
    for index in range(20):
        plans.append(strategy.ask())
        strategy.tell(trial_of(told, index, plans[-1]))
    ends = [move.after for move in strategy.transitions if move.step == 3]
    assert len(ends) >= 3
    for levels in ends:
        assert told.costs.tables["latency"].predict(np.array([levels]))[0] <= 0.5 + 1e-9
    asked = {tuple(LEVELS.index(lv) for lv in plan.levels) for plan in plans}
    assert set(ends) <= asked
    for move in strategy.transitions:  # a step decides one group and leaves the others
        assert [a != b for a, b in zip(move.before, move.after, strict=True)].count(True) <= 1


def test_rewarded_at_the_end_an_episode_is_a_trial_and_its_steps_learn_from_its_last() -> None:
    told = problem((1,) * 4, trials=5, settings=Settings(reward="last"))
    strategy = purl.create(told)
    plans, _ = play(told, strategy)
    assert len(strategy.steps) == 4
    ends = {move.after for move in strategy.transitions if move.step == 3}
    assert {tuple(LEVELS.index(lv) for lv in plan.levels) for plan in plans} <= ends
    known = strategy._known()
    assert {move.step for move in known} == {0, 1, 2, 3}
    with torch.no_grad():
        values = strategy._online(torch.from_numpy(strategy._states([(0, (0, 0, 0, 0))])))
    assert values.isfinite().all()


def test_groups_share_a_step_where_the_trials_would_not_do_for_five_episodes() -> None:
    strategy = purl.create(problem((1,) * 6, trials=10))
    assert strategy.steps == [[0, 1, 2], [3, 4, 5]]


def test_the_reward_is_the_papers() -> None:
    told = problem((1,) * 4, trials=20)
    strategy = purl.create(told)
    whole = (0, 0, 0, 0)
    assert strategy._reward(whole) == pytest.approx(-5.0 * 1.0)  # all accuracy, no saving
    deepest = (4, 4, 4, 4)
    strategy._accuracy[deepest] = 0.46
    assert strategy._reward(deepest) == pytest.approx(-5.0 * 0.5)  # half the accuracy, more saving than asked


def test_a_threshold_cuts_the_filters_below_it_rounded_up_to_a_level() -> None:
    told = problem((0,), limits={})  # 16 channels in steps of 16: whole, or nothing to cut
    assert Filters(told, np.random.default_rng(0)).levels == [[0] * 23]
    told = problem((0, 0, 1), limits={})
    norms = tuple(tuple(np.linspace(1, 2, g.channels).tolist()) for g in told.space.groups)
    levels = Filters(replace(told, norms=norms), np.random.default_rng(0)).levels
    assert levels[2][0] == 0
    assert levels[2][-1] == 4  # above all norms: the block goes
    assert levels[2] == sorted(levels[2])
    group = told.space.groups[2]
    for threshold, level in zip(filter_thresholds.THRESHOLDS, levels[2], strict=True):
        below = filter_thresholds.below(threshold, norms[2])
        assert 1 - group.kept[LEVELS[level]] / group.channels >= below


@pytest.mark.slow
def test_it_learns_which_thresholds_are_good_on_a_toy_of_one_group() -> None:
    told = problem((1, 1), limits={"latency": 0.75}, trials=24, seed=1)
    assert play(told, purl.create(told))[1] == pytest.approx(optimum(told))


@pytest.mark.slow
def test_the_network_fits_the_rewards_of_its_steps() -> None:
    told = problem((1,) * 3, trials=40, seed=2)
    strategy = purl.create(told)
    for index in range(12):
        strategy.tell(trial_of(told, index, strategy.ask()))
    for _ in range(25):
        strategy._learn()
    last = [m for m in strategy.transitions if m.step == 2 and m.after in strategy._accuracy]
    with torch.no_grad():
        values = strategy._online(torch.from_numpy(strategy._states([(m.step, m.before) for m in last])))
    found = np.array([float(values[i, m.action]) for i, m in enumerate(last)])
    wanted = np.array([strategy._reward(m.after) for m in last])
    assert np.abs(found - wanted).mean() < np.abs(wanted - wanted.mean()).mean() + 0.3


# ---------------------------------------------------------------- single weights


def layers(count: int, limit: float = 0.3, **changes: object) -> Problem:
    """A problem of single weights in layers of unequal size, spread like normal distributions of a known width."""
    fields: dict[str, object] = {
        "limits": {"density": limit}, "costs": CostModel({}), "trials": 20,
        "spreads": tuple(layer(f"conv{i}.weight", 100 * (i + 1)) for i in range(count)),
    }  # fmt: skip
    return replace(problem((0, 1)), **{**fields, **changes})  # type: ignore[arg-type]


def layer(name: str, weights: int) -> Spread:
    half = torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(THRESHOLDS, dtype=torch.float64)) * 2 - 1
    return Spread(name=name, weights=weights, below=tuple((half * weights).round().div(weights).tolist()))


def kept(plan: PruningPlan) -> float:
    """The share of the accuracy that a plan keeps, in the toy: each layer's own loss adds up, the first one's most."""
    weights = np.array([1.0, *[0.02] * (len(plan.zeros) - 1)])
    return 1 - float((weights * np.array(plan.zeros) ** 2).sum() / weights.sum())


def thinned(told: Problem, index: int, plan: PruningPlan) -> Trial:
    """What the toy answers to zeros."""
    left = density(told.spreads, plan.zeros)
    within = left <= told.limits["density"]
    found = candidate(told.base_accuracy * kept(plan), sparsity=1 - left)
    return Trial(index=index, plan=plan, key="", candidate=found, reward=kept(plan) - 2 * (not within), feasible=within)


def played(told: Problem) -> tuple[Episodes, list[Trial]]:
    strategy, trials = purl.create(told), []
    for index in range(told.trials):
        trials.append(thinned(told, index, strategy.ask()))
        strategy.tell(trials[-1])
    return strategy, trials


def first_and_best(told: Problem) -> list[Trial]:
    """The first trial that meets the target, and the best one."""
    within = [trial for trial in played(told)[1] if trial.feasible]
    return [within[0], max(within, key=lambda t: t.reward or 0.0)]


def test_with_a_target_of_density_every_channel_stays_and_each_episode_ends_within_the_target() -> None:
    told = layers(3)
    strategy, trials = played(told)
    assert {trial.plan.levels for trial in trials} == {(0, 0)}
    environment = SingleWeights(told, np.random.default_rng(0))
    ends = [move.after for move in strategy.transitions if move.step == len(strategy.steps) - 1]
    assert len(ends) >= 4
    assert (environment.density(ends) <= 0.3 + 1e-12).all()
    assert {environment.plan(end).zeros for end in ends} <= {trial.plan.zeros for trial in trials}
    assert len({trial.plan.zeros for trial in trials}) == len(trials)


def test_the_first_episode_takes_the_lowest_threshold_that_meets_the_target_everywhere() -> None:
    told = layers(3)
    _, trials = played(replace(told, trials=15))
    uniform = [spread.below[11] for spread in told.spreads]  # 2·Φ(1.1) − 1 = 72.9 %, and 2·Φ(1.0) − 1 = 68.3 %
    assert trials[2].plan.zeros == tuple(uniform)
    assert trials[0].plan.zeros == (uniform[0], 0.0, 0.0)


def test_a_threshold_that_would_leave_the_target_out_of_reach_is_raised_to_the_lowest_that_does_not() -> None:
    told = layers(2, limit=0.1)  # 100 and 200 weights; 30 may be left
    environment = SingleWeights(told, np.random.default_rng(0))
    (first, second) = (spread.below for spread in told.spreads)
    lowest = environment.apply_threshold((0, 0), [0], 0)[0]
    least_later = round((1 - second[-1]) * 200)
    assert round((1 - first[lowest]) * 100) + least_later <= 30 < round((1 - first[lowest - 1]) * 100) + least_later
    assert environment.apply_threshold((0, 0), [0], 22) == (22, 0)


def test_the_saving_that_the_reward_counts_is_the_papers_sparsity_over_the_wanted_one() -> None:
    told = layers(2, limit=0.2)
    strategy, environment = purl.create(told), SingleWeights(told, np.random.default_rng(0))
    half = next(i for i, share in enumerate(told.spreads[1].below) if share >= 0.4)
    zero = told.spreads[1].below[half] * 200 / 300
    assert environment.saving_reached([(0, half)])[0] == pytest.approx(zero / 0.8)
    strategy._accuracy[(0, half)] = 0.9 * told.base_accuracy
    assert strategy._reward((0, half)) == pytest.approx(-5.0 * (0.1 + 1 - zero / 0.8))


def test_plans_and_thresholds_are_turned_into_each_other_though_thresholds_take_as_many_weights() -> None:
    flat = Spread(name="fc.weight", weights=4, below=(0.0,) * 10 + (0.5,) * 13)
    told = layers(2, spreads=(layer("conv.weight", 1000), flat))
    environment = SingleWeights(told, np.random.default_rng(0))
    choices = environment.apply_threshold((7, 0), [1], 15)
    assert choices == (7, 10)  # the lowest of those that mean the same
    assert environment.choices(environment.plan(choices)) == choices


@pytest.mark.slow
def test_it_goes_on_where_every_plan_was_asked_for() -> None:
    told = layers(1, limit=0.3)
    _, trials = played(told)
    wanted = {share for share in told.spreads[0].below if 1 - share <= 0.3}
    assert {trial.plan.zeros[0] for trial in trials} == wanted


@pytest.mark.slow
def test_it_spares_the_layer_that_everything_hangs_on() -> None:
    """In a toy whose second layer hardly matters, the best plan takes all it can from that one."""
    told = layers(2, trials=24, seed=3)
    environment = SingleWeights(told, np.random.default_rng(0))
    plans = [
        environment.plan(choices) for choices in itertools.product(range(23), repeat=2) if environment.meets(choices)
    ]
    optimum = max(kept(plan) for plan in plans)
    uniform, best = (kept(trial.plan) for trial in first_and_best(told))
    assert (best - uniform) / (optimum - uniform) > 0.8


def test_a_plan_that_is_not_told_yet_is_seen_with_the_accuracy_before_it_though_a_step_changed_nothing() -> None:
    strategy = purl.create(layers(3, trials=15))
    strategy.ask()
    now = strategy.transitions[-1].after
    strategy.transitions.append(Transition(1, now, 0, now))
    assert strategy._states([(2, now)])[0, 1] == 1.0


@pytest.mark.slow
def test_the_same_seed_gives_the_same_zeros_and_another_seed_others() -> None:
    first = [trial.plan for trial in played(layers(2, trials=10))[1]]
    assert [trial.plan for trial in played(layers(2, trials=10))[1]] == first
    assert [trial.plan for trial in played(layers(2, trials=10, seed=1))[1]] != first


@pytest.mark.parametrize("config", [RunConfig(), RunConfig(strategy="purl", target=("density=0.2x",))])
def test_its_note_says_what_zeros_do_not_do_and_how_the_other_form_is_asked_for(config: RunConfig) -> None:
    note = purl.note(config)
    assert "no dense runtime faster" in note.replace("make ", "").replace("makes ", "")
    assert ("--target latency=0.5x" if config.sets_zeros else "--target density=0.2x") in note
