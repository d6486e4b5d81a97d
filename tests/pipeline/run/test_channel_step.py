"""What the board's staircase makes of a space: measured steps, and levels that save nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from _common.toys import problem

from pipeline.config import RunConfig
from pipeline.devices.agent_client import open_agent
from pipeline.devices.board_pool import BoardPool
from pipeline.evaluation.cut_profiling import CutProfile, cost_tables, cut_of
from pipeline.records import Device, Interval, SearchSpace
from pipeline.run.channel_step import channel_step, found_step, without_plateaus
from pipeline.run.context import Context
from pipeline.store import Store
from pipeline.store.facts import CHANNEL_STEP
from tests.examples import measurement
from tests.pipeline.pruning.networks import IMAGES, Chain, traced


def space_of_widths(step: int = 4) -> SearchSpace:
    """Groups of 16, 32 and 64 channels without a bypass and one of 16 with it, 20 % of the MACs each."""
    told = problem((0, 0, 0, 1)).space
    kept = [{0: c, 25: c * 3 // 4, 50: c // 2, 75: c // 4} for c in (16, 32, 64, 16)]
    kept[3][100] = 0
    groups = tuple(replace(g, kept=k, macs=20) for g, k in zip(told.groups, kept, strict=True))
    return replace(told, groups=groups, macs=100, step=step)


def profiled(space: SearchSpace, step: int, *, half_width: float = 0.002) -> CutProfile:
    """What a board measures that computes channels in blocks of ``step``."""
    figures = {}
    for i, group in enumerate(space.groups):
        for level, kept in group.kept.items():
            if level:
                paid = min(group.channels, -(-kept // step) * step)
                ratio = 1 - 0.2 * (1 - paid / group.channels)
                found = Interval(ratio, ratio - half_width, ratio + half_width)
                figures[cut_of(space, i, level)] = measurement(ratio=found)
    return CutProfile(figures)


@pytest.mark.parametrize(("step", "legal"), [
    (1, [{0, 25, 50, 75}, {0, 25, 50, 75}, {0, 25, 50, 75}, {0, 25, 50, 75, 100}]),
    (8, [{0, 50, 75}, {0, 25, 50, 75}, {0, 25, 50, 75}, {0, 50, 75, 100}]),
    (16, [{0, 75}, {0, 50, 75}, {0, 25, 50, 75}, {0, 75, 100}]),
])  # fmt: skip
def test_levels_that_save_nothing_go_and_the_deepest_stays(step: int, legal: list[set[int]]) -> None:
    space = space_of_widths()
    shaped = without_plateaus(space, profiled(space, step))
    assert [set(group.kept) for group in shaped.groups] == legal
    assert all(one.kept.items() <= other.kept.items() for one, other in zip(shaped.groups, space.groups, strict=True))


def test_what_a_noisy_measurement_cannot_tell_stays_legal() -> None:
    space = space_of_widths()
    slightly_faster = profiled(space, 1, half_width=0.2)
    assert without_plateaus(space, slightly_faster) == space


def test_tables_of_the_shaped_space_know_its_levels_alone() -> None:
    space = space_of_widths()
    measured = profiled(space, 16)
    savings = cost_tables(without_plateaus(space, measured), measured).tables["latency"].savings
    assert savings[1].tolist() == pytest.approx([0.0, float("nan"), 0.1, 0.1, float("nan")], nan_ok=True)


def test_a_level_whose_probe_stayed_invalid_stays_legal() -> None:
    space = space_of_widths()
    measured = profiled(space, 16)
    lost = cut_of(space, 1, 25)
    kept = CutProfile({cut: figure for cut, figure in measured.figures.items() if cut != lost})
    assert 25 in without_plateaus(space, kept).groups[1].kept


@pytest.mark.parametrize("first", [1, 4, 8, 16])
@pytest.mark.parametrize("true", [1, 4, 8, 32])
def test_the_step_is_found_from_whatever_the_processor_suggests(first: int, true: int) -> None:
    assert found_step(lambda channels: 0.8 if channels >= true else 0.05, first) == true


def test_where_no_width_saves_time_or_nothing_could_be_measured_the_processors_step_stays() -> None:
    assert found_step(lambda _: 0.1, 8) == 8
    assert found_step(lambda _: None, 8) == 8
    assert found_step(lambda channels: None if channels < 8 else 0.9, 16) == 8


NOT_ASKED: Any = None
"""What finding a step needs no more of than that it is there: every figure is known."""


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    device = Device(name="here", kind="local", agent_dir=str(tmp_path / "agent"), runtime="null")
    with Store.create(tmp_path / "runs", label="steps") as store, open_agent(device) as agent:
        yield Context(
            config=RunConfig(), store=store, boards=BoardPool.of(agent), data=NOT_ASKED, example=IMAGES,
            format=NOT_ASKED, listen=lambda _: None, stopping=lambda: False,
        )  # fmt: skip


def test_a_run_measures_its_step_once(context: Context) -> None:
    for step in (1, 2, 4, 8, 16, 32):  # as a board measures that computes four channels at once
        ratio = 0.6 if step >= 4 else 1.0
        context.store.remember(f"1:step {step}", measurement(ratio=Interval(ratio, ratio, ratio)))
    assert channel_step(context, traced(Chain), b"base") == 4
    assert context.store.get(CHANNEL_STEP) == 4
    assert channel_step(context, NOT_ASKED, b"base") == 4


def test_a_step_that_the_user_set_is_not_measured_and_stays_the_runs_whatever_the_inventory_says_later(
    context: Context,
) -> None:
    said: list[object] = []
    context = replace(context, listen=said.append)
    for step, told in ((2, 0), (None, 0), (16, 1)):
        context.agent.device = replace(context.agent.device, channel_step=step)
        assert channel_step(context, NOT_ASKED, b"base") == 2
        assert len(said) == told
    assert "steps of 2, as the run began; the inventory says 16 now" in str(said)
