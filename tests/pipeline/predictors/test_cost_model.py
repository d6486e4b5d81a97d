from __future__ import annotations

import numpy as np
import pytest
from _common.toys import all_plans, problem

from pipeline.predictors.cost_model import CostModel, CostTable, owners, signature, size_savings
from pipeline.records import LEVELS

SAVINGS = np.array([
    [0.0, 0.1, 0.2, 0.3, 0.5],  # the first of a block of two carries the block at 100 %
    [0.0, 0.05, 0.1, 0.15, 0.0],
    [0.0, 0.02, 0.04, 0.06, np.nan],
])  # fmt: skip
OWNER = np.array([0, 0, 2])


def cost(table: CostTable, *levels: int) -> float:
    return float(table.predict(np.array([levels]))[0])


def test_savings_add_up() -> None:
    table = CostTable(SAVINGS, OWNER)
    assert cost(table, 0, 0, 0) == 1.0
    assert cost(table, 1, 2, 3) == pytest.approx(1 - 0.1 - 0.1 - 0.06)


def test_a_removed_block_counts_once_whichever_of_its_groups_says_so() -> None:
    table = CostTable(SAVINGS, OWNER)
    for levels in ((4, 4, 0), (4, 0, 0), (0, 4, 0), (4, 3, 0)):
        assert cost(table, *levels) == pytest.approx(0.5)


def test_a_measured_cost_is_split_over_the_groups_as_their_single_cuts_save() -> None:
    costs = CostModel({"power": CostTable(SAVINGS, OWNER)})
    assert costs.split("power", [2, 2, 0], 0.7) == pytest.approx([0.8, 0.7, 0.7])  # 0.2 and 0.1 saved alone
    assert costs.split("power", [0, 0, 0], 1.02) == [1.0, 1.0, 1.0]  # nothing is cut: what is measured is noise
    none = CostModel({"power": CostTable(np.zeros((2, 5)), np.array([0, 1]))})
    assert none.split("power", [1, 3], 0.8) == pytest.approx([0.95, 0.8])  # by depth where no cut saves anything


def test_from_a_network_that_was_cut_before_costs_begin_lower() -> None:
    table = CostTable(SAVINGS, OWNER, whole=0.7)
    assert cost(table, 1, 0, 0) == pytest.approx(0.6)
    table.learn([1, 0, 0], 0.6)
    assert cost(table, 1, 0, 0) == pytest.approx(0.6)
    assert table.correction.offset == pytest.approx(0.0, abs=1e-9)


def test_measured_candidates_correct_the_line_little_by_little() -> None:
    table, errors = CostTable(SAVINGS, OWNER), []
    rng = np.random.default_rng(0)
    for _ in range(40):
        levels = [int(rng.integers(0, 4)) for _ in range(3)]
        true = 0.1 + 0.9 * float(1 - SAVINGS[np.arange(3), levels].sum())  # a constant part that no cut takes away
        errors.append(abs(cost(table, *levels) - true))
        table.learn(levels, true)
    assert np.mean(errors[-10:]) < 0.4 * np.mean(errors[:10])
    assert (table.correction.offset, table.correction.slope) == pytest.approx((0.1, 0.9), abs=0.05)


def test_one_odd_measurement_never_turns_the_line_round() -> None:
    table = CostTable(SAVINGS, OWNER)
    for _ in range(30):
        table.learn([0, 0, 0], 0.4)
        table.learn([4, 4, 3], 0.9)
    assert table.correction.slope > 0
    deep, nothing = (table.cost(table.taken(np.array([levels])))[0] for levels in ([4, 4, 3], [0, 0, 0]))
    assert deep < nothing


def test_the_model_learns_each_metric_it_knows_and_passes_over_others() -> None:
    model = CostModel({"latency": CostTable(SAVINGS, OWNER)})
    model.learn([1, 0, 0], {"latency": 0.95, "power": 0.9})
    assert model.predict(np.array([[1, 0, 0]])).keys() == {"latency"}
    assert 0.9 < model.predict(np.array([[1, 0, 0]]))["latency"][0] < 0.95


def test_size_savings_are_shares_of_the_parameters_and_blocks_are_carried_by_their_first_group() -> None:
    space = problem((2, 0)).space
    savings = size_savings(space)
    first, second, alone = space.groups
    assert savings[0, -1] == pytest.approx((first.parameters + second.parameters) / space.parameters)
    assert savings[1, -1] == 0.0
    assert savings[2, LEVELS.index(50)] == pytest.approx(0.5 * alone.parameters / space.parameters)
    assert np.isnan(savings[2, -1])
    assert np.isnan(savings[0, 1])  # 16 channels in steps of 16
    costs = CostTable(savings, owners(space)).predict(all_plans(problem((2, 0))))
    assert ((costs > 0) & (costs <= 1)).all()


def test_groups_of_a_block_have_its_first_group_as_owner() -> None:
    assert owners(problem((1, 2, 0, 3)).space).tolist() == [0, 1, 1, 3, 4, 4, 4]


def test_equal_groups_share_a_signature_and_others_do_not() -> None:
    made = problem((1, 1, 1, 1, 0, 0)).space.groups
    assert signature(made[0]) == signature(made[3])
    assert signature(made[0]) != signature(made[1])
    assert signature(made[1]) != signature(made[4])
