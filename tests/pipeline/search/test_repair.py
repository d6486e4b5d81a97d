from __future__ import annotations

import numpy as np
import pytest
from _common.toys import all_plans, problem

from pipeline.search.planner import REMOVE
from pipeline.search.repair import Repair
from pipeline.search.strategy import Problem
from tests.pipeline.search.strategies.peers import planner_of


def repair_of(told: Problem) -> Repair:
    return Repair(planner_of(told), np.random.default_rng(0))


@pytest.mark.parametrize("blocks", [(1,), (2, 0), (1, 2, 0), (0, 0, 2)])
def test_a_feasible_plan_stays_and_another_is_cut_deeper_until_it_is(blocks: tuple[int, ...]) -> None:
    told = problem(blocks, limits={"latency": 0.6})
    repair, plans = repair_of(told), all_plans(told)
    for wanted in map(tuple, plans.tolist()):
        met = repair.make_feasible(wanted)
        if repair.planner.can_meet(np.array([wanted]))[0]:
            assert met == wanted
        else:
            assert all(after >= before for after, before in zip(met, wanted, strict=True))
            assert repair.excess([met])[0] == repair.excess(plans).min()


def test_tightening_takes_back_all_that_the_target_does_not_ask_for() -> None:
    told = problem((1, 2, 0, 1), limits={"latency": 0.6})
    repair = repair_of(told)
    tight = repair.undo_surplus_cuts(tuple(max(own) for own in repair.options))
    assert repair.excess([tight])[0] == 0
    for group, level in enumerate(tight):
        less = [o for o in repair.options[group] if o < level]
        if less:
            assert repair.excess([repair.with_level(tight, group, less[-1])])[0] > 0


def test_without_a_target_nothing_is_changed() -> None:
    repair = repair_of(problem((1, 2, 0), limits={}))
    assert repair.undo_surplus_cuts(repair.make_feasible((3, 0, 0, 0))) == repair.round_to_legal((3, 0, 0, 0))


def test_a_block_goes_and_comes_back_whole() -> None:
    repair = repair_of(problem((2, 0), limits={}))
    assert repair.with_level((0, 0, 1), 1, REMOVE) == (REMOVE, REMOVE, 1)
    assert repair.with_level((REMOVE, REMOVE, 1), 1, 0) == (0, 0, 1)
    assert repair.round_to_legal((4.0, 0.2, 0.0))[:2] == (REMOVE, REMOVE)
    assert REMOVE not in repair.round_to_legal((0.2, 4.0, 0.0))


def test_a_block_within_another_goes_with_it_and_comes_back_without_its_neighbours() -> None:
    repair = repair_of(problem((2, 1, 1, 0), within={1: 0, 2: 0}, limits={}))
    gone = (REMOVE,) * 4
    assert repair.with_level((0, 0, 1, 0, 1), 1, REMOVE) == (*gone, 1)
    assert repair.with_level((0, 0, 1, 0, 1), 2, REMOVE) == (0, 0, REMOVE, 0, 1)
    assert repair.with_level((*gone, 1), 1, 0) == (0, 0, REMOVE, REMOVE, 1)
    assert repair.with_level((*gone, 1), 2, 3) == (0, 0, 3, REMOVE, 1)
    assert repair.with_level((0, 0, REMOVE, 2, 1), 2, 1) == (0, 0, 1, 2, 1)
    assert repair.round_to_legal((4.0, 0.0, 0.0, 1.0, 0.0)) == (*gone, 0)
    assert repair.round_to_legal((0.0, 4.0, 4.0, 1.0, 0.0))[1:4] == (repair.options[1][-2], REMOVE, 1)


@pytest.mark.parametrize("limit", [0.4, 0.7])
def test_with_blocks_within_blocks_plans_are_met_and_tightened_within_the_masks(limit: float) -> None:
    told = problem((1, 1, 0), within={1: 0}, limits={"latency": limit})
    repair, plans = repair_of(told), all_plans(told)
    known = set(map(tuple, plans.tolist()))
    for wanted in known:
        met = repair.make_feasible(wanted)
        assert {met, repair.undo_surplus_cuts(met)} <= known
        assert repair.planner.can_meet(np.array([met, repair.undo_surplus_cuts(met)])).all()


def test_fresh_gives_every_plan_before_it_repeats_one() -> None:
    told = problem((1, 0, 1), limits={"latency": 0.9})
    repair, asked = repair_of(told), set[tuple[int, ...]]()
    within = set(repair.planner.every_plan())
    for _ in within:
        asked.add(repair.propose_new((0, 0, 0), asked))
    assert asked == within
    assert repair.propose_new((0, 0, 0), asked) in within
