from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from _common.toys import all_plans, powered, problem

from pipeline.measurement.relative_costs import RelativeCosts
from pipeline.records import LEVELS
from pipeline.search.planner import REMOVE, Indices, Planner, indices, repair_to_feasible
from pipeline.search.reachability import Reach
from pipeline.search.reward import AfterEachGroup, Weights, reward
from pipeline.search.strategies.random import draw
from pipeline.search.strategy import Problem

SHAPES = [(1,), (0,), (2,), (1, 2, 0), (2, 0, 2), (3, 1), (0, 0, 0, 2)]
NESTED = [
    ((1, 1), {1: 0}), ((2, 1, 0), {1: 0}), ((1, 1, 1), {1: 0, 2: 1}), ((1, 2, 1), {1: 0, 2: 0}),
    ((0, 1, 1, 0), {2: 1}),
]  # fmt: skip
"""Blocks, and which of them lie within which."""


def planner_of(told: Problem) -> Planner:
    return Planner(told)


def excess_of(planner: Planner, plans: Indices) -> float:
    """By how much the worst of plans is predicted to exceed the relaxed limits."""
    return float(planner.excess(plans, planner.relaxed_limits()).max())


@pytest.mark.parametrize("blocks", SHAPES)
@pytest.mark.parametrize("seed", range(4))
def test_plans_within_the_masks_are_feasible_wherever_a_plan_is(blocks: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    costs = problem(blocks, seed=seed).costs.tables["latency"].predict(all_plans(problem(blocks, seed=seed)))
    for limit in (costs.min(), rng.uniform(costs.min(), 1.0), 1.0):
        told = problem(blocks, seed=seed, limits={"latency": float(limit)})
        planner = planner_of(told)
        assert excess_of(planner, draw(planner, 60, rng)) == 0.0


@pytest.mark.parametrize("blocks", SHAPES)
def test_the_masks_let_every_plan_through_that_is_feasible_and_no_other(blocks: tuple[int, ...]) -> None:
    told = problem(blocks, limits={"latency": 0.7})
    planner, plans = planner_of(told), all_plans(told)
    within = {tuple(p) for p in plans[planner.can_meet(plans)].tolist()}
    if within:
        found = list(planner.every_plan())
        assert set(found) == within
        assert len(found) == len(within)


@pytest.mark.parametrize(("blocks", "within"), NESTED)
@pytest.mark.parametrize("limit", [0.5, 0.7, 1.0])
def test_with_blocks_within_blocks_the_masks_let_every_plan_through_that_is_feasible_and_no_other(
    blocks: tuple[int, ...], within: dict[int, int], limit: float
) -> None:
    told = problem(blocks, within=within, limits={"latency": limit})
    planner, plans = planner_of(told), all_plans(told)
    wanted = sorted(map(tuple, plans[planner.can_meet(plans)].tolist()))
    if wanted:
        assert sorted(planner.every_plan()) == wanted
        assert excess_of(planner, draw(planner, 60, np.random.default_rng(0))) == 0.0
    shapes = {told.space.key(planner.plan(plan).levels) for plan in plans.tolist()}
    assert len(shapes) == len(plans)  # no two plans are the same network


def test_a_removed_block_takes_those_within_it_along_whatever_their_level() -> None:
    space = problem((2, 1, 1), within={1: 0, 2: 1}).space
    assert space.kept((0, 100, 50, 50)) == (0, 0, 0, 0)
    assert space.kept((0, 0, 100, 50)) == (16, 16, 0, 0)
    assert space.kept((0, 0, 0, 100)) == (16, 16, 32, 0)


def test_what_a_block_saves_counts_once_where_one_around_it_goes() -> None:
    told = problem((1, 1, 0, 0), within={1: 0})
    table = told.costs.tables["latency"]
    outer, both = table.predict(np.array([[REMOVE, 0, 0, 0], [REMOVE, REMOVE, 0, 0]]))
    assert outer == both == pytest.approx(1 - table.savings[0, REMOVE])
    size = told.costs.tables["size"].savings
    assert size[0, REMOVE] * 270_000 == pytest.approx(sum(g.parameters for g in told.space.groups[:2]))


def test_the_masks_follow_what_whole_candidates_teach_of_the_costs() -> None:
    told = problem((1, 2, 0), limits={"latency": 0.6})
    deep = [REMOVE, REMOVE, REMOVE, 3]
    for _ in range(20):
        told.costs.learn([1 if x < REMOVE else x for x in deep[:3]] + [0], {"latency": 0.9})
    planner = planner_of(told)
    plans = draw(planner, 50, np.random.default_rng(0))
    assert planner.can_meet(plans).all() == planner.can_meet(all_plans(told)).any()


def taught(told: Problem, seed: int) -> Planner:
    """A planner whose cost model has learnt from forty plans that are off what their single cuts add up to."""
    rng, plans, table = np.random.default_rng(seed), all_plans(told), told.costs.tables["latency"]
    off = 0.08 + 0.1 * rng.normal(0, 1, 5)[plans[:, 0]] * plans[:, 1] / 4
    measured = 0.92 * table.predict(plans) + off + 0.06 * np.sin(plans @ rng.normal(0, 1, plans.shape[1]))
    for i in rng.permutation(len(plans))[:40]:
        table.learn(plans[i].tolist(), float(measured[i]))
    return planner_of(told)


@pytest.mark.parametrize(("blocks", "within"), [((1, 2, 0, 1), {}), ((2, 0, 2, 1), {}), ((1, 1, 2, 0), {1: 0, 2: 1})])
@pytest.mark.parametrize("limit", [0.5, 0.7])
def test_the_masks_know_of_departures_from_what_single_cuts_add_up_to(
    blocks: tuple[int, ...], within: dict[int, int], limit: float
) -> None:
    """No plan is let through that is infeasible, whatever was decided first, and hardly one is lost."""
    told = problem(blocks, within=within, limits={"latency": limit}, margin=0.01)
    planner, plans = taught(told, 0), all_plans(told)
    wanted = set(map(tuple, plans[planner.can_meet(plans)].tolist()))
    found = list(planner.every_plan())
    table = told.costs.tables["latency"]
    by_cuts = plans[table.cost(table.taken(plans)) <= planner.relaxed_limits()["latency"]]
    assert limit < 0.6 or set(map(tuple, by_cuts.tolist())) != wanted, "departures change nothing here"
    assert set(found) <= wanted
    assert len(found) == len(set(found)) >= 0.95 * len(wanted)
    assert planner.can_meet(draw(planner, 60, np.random.default_rng(0))).all()


@pytest.mark.parametrize(("blocks", "within"), [((1, 2, 0, 1), {}), ((1, 1, 2, 0), {1: 0, 2: 1})])
def test_a_completed_plan_is_priced_as_the_plan_that_it_is(blocks: tuple[int, ...], within: dict[int, int]) -> None:
    told = problem(blocks, within=within)
    planner, plans = taught(told, 1), all_plans(told)
    table = told.costs.tables["latency"]
    for step in range(planner.groups):
        costs = Reach(table).completed(plans, step)
        for level in range(len(LEVELS)):
            begun = plans[planner.legal(plans, step)[:, level]]
            done = np.where(np.arange(planner.groups) < step, begun, 0)
            done[:, step] = level
            for later in range(step + 1, planner.groups):
                done[:, later] = (planner.legal(done, later) * np.arange(len(LEVELS))).max(1)
            found = costs[planner.legal(plans, step)[:, level], level]
            assert found == pytest.approx(table.predict(done))


def test_a_feasible_plan_stays_as_it_is() -> None:
    told = problem((1, 2, 0, 1), limits={"latency": 0.6}, margin=0.01)
    planner, plans = taught(told, 0), all_plans(told)
    near = repair_to_feasible(planner, plans)
    assert ((near == plans).all(1) == planner.can_meet(plans)).all()
    assert planner.can_meet(near).all()


def test_out_of_reach_the_masks_lead_to_the_nearest_plan() -> None:
    told = problem((1, 0, 2), limits={"latency": 0.01})
    planner = planner_of(told)
    nearest = planner.excess(all_plans(told)).min()
    assert planner.excess(draw(planner, 10, np.random.default_rng(0))) == pytest.approx(nearest)
    levels = planner.empty_plans(1)
    for step in range(planner.groups):
        levels[:, step] = planner.deepest(levels, step)
    assert planner.excess(levels)[0] == pytest.approx(nearest)


def test_several_targets_are_all_kept_in_reach() -> None:
    told = problem((1, 1, 2), limits={"latency": 0.5, "size": 0.4})
    planner = planner_of(told)
    assert excess_of(planner, draw(planner, 80, np.random.default_rng(1))) == 0.0


def test_without_targets_every_legal_plan_is_open() -> None:
    told = problem((1, 2, 0), limits={})
    planner = planner_of(told)
    assert set(planner.every_plan()) == {tuple(p) for p in all_plans(told).tolist()}


def test_a_removed_block_takes_its_followers_along() -> None:
    planner = planner_of(problem((2, 0), limits={}))
    levels = planner.empty_plans(2)
    levels[0, 0] = REMOVE
    assert planner.mask(levels, 1).tolist() == [[False] * 4 + [True], [True] + [False] * 4]


def test_the_predicted_reward_is_what_the_reward_would_be() -> None:
    weights = Weights([1.0, 0.8, 0.9], [0.0] * 3, [0.1, 0.3, 0.2], [0.2, 0.0, 0.1], latency=0.05, violation=2.0)
    told = problem((2, 0), limits={"latency": 0.6}, weights=weights)
    planner = planner_of(told)
    for levels in all_plans(told):
        plan = planner.plan(levels)
        seen = planner.predictions(levels[None])
        costs = RelativeCosts(latency=float(seen.costs["latency"][0]))
        begun = [planner.predictions(planner.begun(levels[None], step)).accuracy[0] for step in range(1, 3)]
        after = AfterEachGroup([*begun, float(seen.accuracy[0])], None)
        value, _ = reward(float(seen.accuracy[0]), costs, told.space, plan.levels, weights, told.limits, after)
        assert planner.predicted_reward(levels[None])[0] == pytest.approx(value, abs=1e-8)


def test_the_state_says_the_target_the_input_and_what_is_predicted_and_stays_in_bounds() -> None:
    told = problem((1, 2, 0), input_mean=(0.25,), input_variance=(9.0,), temperature_c=61.0)
    planner = planner_of(told)
    state = planner.observe(draw(planner, 5, np.random.default_rng(0)), planner.groups)
    assert state.shape == (5, planner.observation_size)
    assert (np.abs(state) <= 5).all()
    for known in (0.25, 5.0, 0.61, 0.5):
        assert (state == known).any(1).all()


def test_plans_and_their_indices_are_two_ways_to_say_the_same() -> None:
    planner = planner_of(problem((1, 0, 0)))
    assert planner.plan([4, 0, 2]).levels == (100, 0, 50)
    assert indices(planner.plan([4, 0, 2])) == [4, 0, 2]


def powered_and_weighted(alpha: list[float], beta: list[float]) -> Problem:
    told = powered(problem((1, 0, 1), seed=3, limits={}))
    return replace(told, weights=Weights(alpha, beta, [0.1] * 3, [0.0] * 3, latency=0.05, violation=2.0))


def test_a_step_earns_by_the_weights_of_its_own_group() -> None:
    """AKPERL's r_i: only what group i changes is weighed by αi and βi."""
    alpha, beta = [1.0, 4.0, 0.5], [0.2, 0.1, 0.9]
    own, even = (planner_of(powered_and_weighted(a, b)) for a, b in ((alpha, beta), ([1.0] * 3, [0.0] * 3)))
    plan = np.array([[1, 2, 3]])
    for step in range(3):
        before, after = (own.begun(plan, s) for s in (step, step + 1))
        changes = [own.predictions(after), own.predictions(before)]
        accuracy = float(changes[0].accuracy[0] - changes[1].accuracy[0])
        power = float(changes[0].costs["power"][0] - changes[1].costs["power"][0])
        earned = float((own.potential(after) - own.potential(before))[0])
        rest = float((even.potential(after) - even.potential(before))[0]) - accuracy  # latency and intensity
        assert earned == pytest.approx(alpha[step] * accuracy - beta[step] * power + rest)


def test_the_replay_earns_what_the_planner_says_step_by_step() -> None:
    told = powered_and_weighted([1.0, 4.0, 0.5], [0.2, 0.1, 0.9])
    planner, plans = planner_of(told), all_plans(told)[::7]
    begun = [planner.predictions(planner.begun(plans, step)) for step in range(planner.groups + 1)]
    through = planner.own_weights(begun)
    for step, predicted in enumerate(begun):
        levels = planner.begun(plans, step)
        assert planner.potential(levels, predicted, through[step]) == pytest.approx(planner.potential(levels))
