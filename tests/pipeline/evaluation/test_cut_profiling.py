"""Which skeletons the cost tables need: one for each different single cut; what becomes of those that stay invalid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _common.toys import problem

from pipeline.devices.agent_client import open_agent
from pipeline.devices.board_pool import BoardPool
from pipeline.errors import DeviceError
from pipeline.evaluation.cut_profiling import cost_tables, measure_cuts, single_cuts
from pipeline.evaluation.device_bench import Bench
from pipeline.records import Device, Interval
from pipeline.store import Store
from tests.examples import measurement


def test_equal_groups_share_a_probe_and_blocks_of_several_groups_have_their_own() -> None:
    space = problem((1, 2, 0, 1)).space  # 16, 32 and 32, 64, and again 16 channels in steps of 16
    plans = sorted(single_cuts(space).values())
    assert plans == sorted([
        (100, 0, 0, 0, 0),  # stands for the last group's block as well
        (0, 50, 0, 0, 0), (0, 100, 0, 0, 0),  # stands for the second group's 50 % as well; the block goes once
        (0, 0, 0, 25, 0), (0, 0, 0, 50, 0), (0, 0, 0, 75, 0),
    ])  # fmt: skip


def test_every_probe_is_a_network_of_its_own() -> None:
    space = problem((2, 1, 0, 3)).space
    keys = [space.key(levels) for levels in single_cuts(space).values()]
    assert len(set(keys)) == len(keys)
    assert space.key((0,) * len(space.groups)) not in keys


SPACE = problem((1, 2, 0, 1)).space
NOTHING_TO_BUILD: Any = None
"""Every cut is known here, so that no builder is asked."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    device = Device(name="here", kind="local", agent_dir=str(tmp_path / "agent"), runtime="null")
    with Store.create(tmp_path / "runs", label="cuts") as store, open_agent(device) as agent:
        yield Bench(BoardPool.of(agent), store, b"base")


def measured(bench: Bench, invalid: int) -> list[tuple[int, ...]]:
    """Store a ratio for every single cut, of the first ``invalid`` ones an invalid one; return those cuts."""
    cuts = sorted(single_cuts(SPACE).values(), key=lambda levels: -levels[3])
    for number, levels in enumerate(cuts):
        ratio = 1 - max(levels) / 1000
        flags = ("throttled",) if number < invalid else ()
        found = measurement(ratio=Interval(ratio, ratio, ratio), flags=flags)
        bench.store.remember(f"1:{SPACE.key(levels)}", found)
    return cuts[:invalid]


def test_a_single_cut_that_stays_invalid_costs_what_its_neighbours_say(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    assert measured(bench, invalid=2) == [(0, 0, 0, 75, 0), (0, 0, 0, 50, 0)]
    table = cost_tables(SPACE, measure_cuts(SPACE, bench, NOTHING_TO_BUILD)).tables["latency"]
    assert table.savings[3, :4].tolist() == pytest.approx([0.0, 0.025, 0.05, 0.075])
    assert "its cost is taken from the group's other levels: (0, 0, 0, 75, 0)" in caplog.text
    assert "quarantined: throttled" in caplog.text


def test_without_enough_valid_single_cuts_the_run_ends_and_says_what_to_do(bench: Bench) -> None:
    measured(bench, invalid=4)
    with pytest.raises(DeviceError, match=r"only 2 of 6 single cuts could be measured validly.*close other programs"):
        measure_cuts(SPACE, bench, NOTHING_TO_BUILD)
