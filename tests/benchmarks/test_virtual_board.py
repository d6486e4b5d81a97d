"""A board in virtual time: what is scripted is what the agent then measures."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from _common.virtual_board import Board, Conditions, model_file

from device_agents import turns
from pipeline.devices.agent_client import open_agent
from pipeline.records import Measurement

STILL = Conditions(pair_sd=1e-6, common_sd=1e-6)


def board(conditions: Conditions, seed: int = 0) -> Board:
    made = Board(conditions, np.random.default_rng(seed))
    made.put(model_file(conditions.base_ms / 2, "half"), "half")
    made.put(model_file(conditions.base_ms, "base"), "base")
    return made


def measured(conditions: Conditions, seconds: float, *, reference: str | None = "base", seed: int = 0) -> Any:
    """The agent's raw answer after at least ``seconds`` of the candidate."""
    asked = {"candidate": "half" if reference else "base", "reference": reference, "min_s": seconds, "ci_rel": 1e3}
    return board(conditions, seed).measure({**asked, "block_s": 0.05, "max_s": 1e4, "timeout_s": 1e5})


def ratios(raw: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    pairs = zip(raw["candidate"]["blocks"], raw["reference"]["blocks"], strict=True)
    return np.array([np.median(one["ms"]) / np.median(other["ms"]) for one, other in pairs])


def figures(made: Board, share: float = 0.5) -> Measurement:
    """What the host makes of it."""
    base = model_file(5.0, "base")
    with open_agent(made.device(), opening=made.opening) as agent:
        return agent.measure(model_file(5.0 * share, "cut"), "skeleton", reference=(base, "skeleton"))


def test_an_undisturbed_board_takes_the_times_that_the_files_say() -> None:
    made = board(STILL)
    found = figures(made)
    assert found.ratio is not None
    assert found.ratio.value == pytest.approx(0.5, rel=1e-3)
    assert found.p50_ms.value == pytest.approx(2.5, rel=2e-3)
    assert made.measurements == 1


def test_time_is_virtual_while_the_board_measures_and_real_before_and_after() -> None:
    made = board(STILL)
    start_s = made.clock.now_s
    found = figures(made)
    assert made.clock.now_s - start_s > 1.0 > found.seconds
    assert vars(turns)["time"] is time


def test_the_same_seed_gives_the_same_board() -> None:
    one, other, another = (figures(board(Conditions(between=0.01), seed)).ratio for seed in (1, 1, 2))
    assert one == other
    assert one != another


@pytest.mark.parametrize("phi", [0.0, 0.3, 0.6])
def test_ratios_of_blocks_spread_and_lean_on_each_other_as_told(phi: float) -> None:
    logs = np.log(np.concatenate([ratios(measured(Conditions(phi=phi, pair_sd=0.02), 30.0, seed=s)) for s in range(2)]))
    off = logs - np.log(0.5)
    assert off.std() == pytest.approx(0.02, rel=0.15)
    assert (off[1:] * off[:-1]).mean() / off.var() == pytest.approx(phi, abs=0.1)


def test_processes_differ_by_what_is_told_and_not_within_themselves() -> None:
    conditions = Conditions(between=0.05, pair_sd=1e-6, common_sd=1e-6)
    found = [figures(board(conditions, seed)).ratio for seed in range(60)]
    logs = np.log([ratio.value for ratio in found if ratio])
    assert logs.std() == pytest.approx(0.05, rel=0.25)
    assert max(ratio.half_width / ratio.value for ratio in found if ratio) < 0.05 / 2


def test_bursts_move_the_median_as_far_as_is_said() -> None:
    conditions = Conditions(phi=0.3, bursts_per_s=1.0, common_sd=1e-6)
    said = conditions.median_ms(conditions.base_ms)
    blocks = measured(conditions, 300.0, reference=None)["candidate"]["blocks"]
    median = np.median([ms for block in blocks for ms in block["ms"]])
    assert said > 1.002 * conditions.base_ms
    assert median == pytest.approx(said, rel=1e-3)


def test_a_board_that_has_warmed_up_is_slower_and_the_ratio_is_not() -> None:
    made = board(Conditions(drift=0.05, pair_sd=1e-6, common_sd=1e-6))
    cold = figures(made)
    made.clock.sleep(3 * 3600.0)
    warm = figures(made)
    assert warm.p50_ms.value / cold.p50_ms.value == pytest.approx(1.05, abs=0.002)
    assert cold.ratio is not None
    assert warm.ratio is not None
    assert warm.ratio.value == pytest.approx(cold.ratio.value, rel=0.002)
