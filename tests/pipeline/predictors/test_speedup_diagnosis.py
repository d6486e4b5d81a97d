"""When a network does not get faster, and why: tables made as boards of each kind would measure them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from _common.toys import problem

from pipeline.predictors.cost_model import CostTable, owners
from pipeline.predictors.speedup_diagnosis import why_not_faster
from pipeline.records import LEVELS, SearchSpace


def space_of(macs: tuple[int, ...], parameters: tuple[int, ...], blocks: int = 1) -> SearchSpace:
    """Groups that weigh so much in MACs and in parameters, each a layer of its own."""
    made = problem((blocks,) * len(macs)).space
    channels = {0: 64, 25: 48, 50: 32, 75: 16}
    groups = tuple(
        replace(g, channels=64, kept=channels | ({100: 0} if blocks else {}), macs=m, parameters=p)
        for g, m, p in zip(made.groups, macs, parameters, strict=True)
    )
    layers = {g.name: g.macs for g in groups}
    return replace(made, groups=groups, macs=sum(macs), parameters=sum(parameters), layer_macs=layers)


def board(space: SearchSpace, shares: list[float], block: float = 0.0) -> CostTable:
    """A board on which all of a group's channels take so much of the time, and a removed block this much more."""
    savings = np.array([
        [(1 - g.kept[lv] / g.channels) * share + block * (lv == 100) if lv in g.kept else np.nan for lv in LEVELS]
        for g, share in zip(space.groups, shares, strict=True)
    ])  # fmt: skip
    return CostTable(savings, owners(space))


MACS = (40, 30, 20, 10)
SPACE = space_of(MACS, (10, 20, 30, 40))


def test_where_time_goes_with_the_macs_nothing_is_said() -> None:
    assert why_not_faster(SPACE, board(SPACE, [0.36, 0.27, 0.18, 0.09]), 10.0, unshaped=SPACE) == []


def test_where_each_call_has_its_price_it_says_launch_bound_and_what_removing_blocks_would_do() -> None:
    (said,) = why_not_faster(SPACE, board(SPACE, [0.04, 0.03, 0.02, 0.01], block=0.2), 10.0)
    assert said.startswith("launch-bound: with every group cut as deep as it goes, 25% of the MACs stay and 92% of")
    assert "2.31 ms for each of 4 layers" in said
    assert "4 can go, each saves 22.5% on average, one 24.0%" in said


def test_where_no_block_can_go_it_says_so() -> None:
    space = space_of(MACS, (10, 20, 30, 40), blocks=0)
    (said,) = why_not_faster(space, board(space, [0.04, 0.03, 0.02, 0.01]), 10.0)
    assert "no block can be removed" in said


def test_where_time_goes_with_the_weights_it_says_memory_bound() -> None:
    (said,) = why_not_faster(SPACE, board(SPACE, [0.01, 0.08, 0.15, 0.22]), 10.0)
    assert said.startswith("memory-bound: ")


def test_where_many_levels_save_nothing_it_shows_one_of_them() -> None:
    shaped = replace(SPACE, groups=tuple(replace(g, kept={0: 64, 50: 32, 75: 16, 100: 0}) for g in SPACE.groups))
    (said,) = why_not_faster(shaped, board(shaped, [0.36, 0.27, 0.18, 0.09]), 10.0, unshaped=SPACE)
    assert said.startswith("unaligned: 4 of 12 levels save nothing on this board")
    assert said.endswith("48 channels of block0.conv0 take as long as 64")


def test_of_a_network_that_can_hardly_be_cut_nothing_is_said() -> None:
    little = replace(SPACE, macs=1000, layer_macs={})
    assert why_not_faster(little, board(SPACE, [0.0, 0.0, 0.0, 0.0]), 10.0) == []
