"""Raw samples as an agent returns them become figures and doubts; nonsense is refused."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.measurement.from_samples import STOPPED_EARLY, measurement
from pipeline.measurement.intervals import student_t
from pipeline.measurement.validity import invalid


def reply(*, candidate_ms: float = 2.0, reference_ms: float | None = 4.0, watts: float = 3.0) -> dict[str, Any]:
    """Blocks of 2 s in turns, candidate first; idle 1 W before and after, ``watts`` while the candidate runs."""
    random = np.random.default_rng(0)
    candidate, reference, at = [], [], 10.0
    for _ in range(6):
        for ms, blocks in ((candidate_ms, candidate), (reference_ms, reference)):
            if ms:
                runs = int(2000 / ms)
                samples = (ms * (1 + 0.01 * random.normal(size=runs))).tolist()
                blocks.append({"start_s": at, "end_s": at + 2.0, "ms": samples})
                at += 2.1
    t = np.arange(4.0, at + 6.0, 0.02)
    w = np.full(len(t), 1.0)
    for blocks, power in ((candidate, watts), (reference, 2 * watts)):
        for b in blocks:
            w[(t >= b["start_s"] - 0.03) & (t <= b["end_s"] + 0.03)] = power
    board = {"throttled": "0x0", "clock_mhz": 1500.0, "temperature_c": 50.0}
    return {
        "candidate": {"blocks": candidate, "load_ms": 12.5, "input": {"shape": [1, 3, 32, 32]}},
        "reference": {"blocks": reference, "load_ms": 20.0} if reference_ms else None,
        "idle": [[4.5, 9.5], [at + 0.5, at + 5.5]],
        "power": {"source": "ina219", "scope": "board", "t_s": t.tolist(), "w": w.tolist()},
        "before": board,
        "after": dict(board, temperature_c=55.0),
        "peak_rss_mb": 80.5,
        "runtime": "onnxruntime 1.31.1",
        "threads": 1,
    }


def test_known_samples_give_the_known_figures() -> None:
    m = measurement(reply(), ci_rel=0.02, bytes_sent=7, seconds=1.5)
    assert m.p50_ms.value == pytest.approx(2.0, rel=0.01)
    assert m.p50_ms.low < m.p50_ms.value < m.p50_ms.high
    assert m.p50_ms.value < m.p90_ms < m.p99_ms
    assert m.ratio is not None
    assert m.ratio.value == pytest.approx(0.5, rel=0.01)
    assert (m.inferences, m.load_ms, m.peak_memory_mb) == (6000, 12.5, 80.5)
    assert (m.bytes_sent, m.seconds, m.temperature_c, m.clock_mhz) == (7, 1.5, 55.0, 1500.0)
    assert m.flags == ()


def test_energy_is_power_times_time_an_inference_and_dynamic_takes_idle_off() -> None:
    power = measurement(reply(), ci_rel=0.02).power
    assert power is not None
    assert power.energy_dynamic_mj is not None
    assert power.mean_w.value == pytest.approx(3.0)
    assert power.idle_w == pytest.approx(1.0)
    assert power.energy_total_mj.value == pytest.approx(3.0 * 2.0)
    assert power.energy_dynamic_mj.value == pytest.approx(2.0 * 2.0)
    assert (power.source, power.scope) == ("ina219", "board")
    assert power.samples > 500


def test_power_and_energy_are_also_given_over_the_reference() -> None:
    m = measurement(reply(), ci_rel=0.02)
    assert m.power_ratio is not None
    assert m.energy_ratio is not None
    assert m.power_ratio.value == pytest.approx(0.5)
    assert m.energy_ratio.value == pytest.approx(0.25)


def test_without_a_sensor_power_is_absent_and_without_a_reference_the_ratio_is() -> None:
    raw = reply(reference_ms=None)
    raw["power"] = None
    m = measurement(raw, ci_rel=0.02)
    assert (m.power, m.power_ratio, m.energy_ratio, m.ratio) == (None, None, None, None)


def edit(raw: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    raw = copy.deepcopy(raw)
    *parents, last = path.split(".")
    here: Any = raw
    for key in parents:
        here = here[int(key)] if key.isdigit() else here[key]
    here[int(last) if last.isdigit() else last] = value
    return raw


@pytest.mark.parametrize(
    ("path", "value", "flag"),
    [
        ("after.throttled", "0x4", "throttled"),
        ("after.throttled", "0x1", "undervoltage"),
        ("after.throttled", "0x10000", "undervoltage"),
        ("after.throttled", "0x40000", "throttled"),
        ("before.throttled", "0x2", "throttled"),
        ("after.clock_mhz", 1200.0, "clock_changed"),
        ("after.temperature_c", 61.0, "temperature_rise"),
    ],
)
def test_a_board_that_changed_meanwhile_is_flagged(path: str, value: object, flag: str) -> None:
    assert measurement(edit(reply(), path, value), ci_rel=0.02).flags == (flag,)


def test_a_clock_that_fell_between_the_blocks_and_a_short_throttling_are_flagged() -> None:
    clocks = [1500.0] * 4 + [1000.0] * 4
    raw = reply() | {"during": [{"clock_mhz": clock, "throttled": "0x0"} for clock in clocks]}
    assert measurement(raw, ci_rel=0.02).flags == ("clock_changed",)
    raw["during"] = [{"clock_mhz": 1500.0, "throttled": "0x4" if i == 3 else "0x0"} for i in range(8)]
    assert measurement(raw, ci_rel=0.02).flags == ("throttled",)


def test_getting_warm_before_the_first_block_is_no_doubt() -> None:
    raw = reply() | {"during": [{"temperature_c": 63.0}]}
    raw["after"] = raw["after"] | {"temperature_c": 64.0}
    assert measurement(raw, ci_rel=0.02).flags == ()


@pytest.mark.parametrize(("busy_s", "flags"), [(20.5, ()), (30.0, ("competing_load",))])
def test_other_programs_that_keep_the_board_busy_are_flagged(busy_s: float, flags: tuple[str, ...]) -> None:
    raw = reply() | {"wall_s": 20.0, "own_cpu_s": 20.0, "cores": 4}
    raw["before"] = raw["before"] | {"cpu_busy_s": 100.0}
    raw["after"] = raw["after"] | {"cpu_busy_s": 100.0 + busy_s + 1.0}
    m = measurement(raw, ci_rel=0.02)
    assert m.flags == flags
    assert m.conditions["others_cores"] == pytest.approx((busy_s - 19.0) / 20.0, abs=0.01)
    assert measurement(raw, ci_rel=0.02, max_background_cores=2.0).flags == ()


def test_a_candidate_rejected_early_is_not_reproached_with_few_samples() -> None:
    raw = reply() | {"early": True}
    raw["candidate"]["blocks"] = raw["candidate"]["blocks"][:3]
    m = measurement(raw, ci_rel=0.001)
    assert (m.early, m.flags) == (True, ())
    whole = measurement(raw | {"early": False}, ci_rel=0.02)
    assert m.ratio is not None
    assert whole.ratio is not None
    freedom = whole.ratio.freedom
    wider = student_t(freedom, STOPPED_EARLY) / student_t(freedom)  # looked at again and again
    assert math.log(m.ratio.high / m.ratio.value) == pytest.approx(
        wider * math.log(whole.ratio.high / whole.ratio.value)
    )
    assert measurement(raw | {"early": False}, ci_rel=0.001).flags != ()


def test_the_reference_s_own_latency_tells_how_fast_the_board_was() -> None:
    assert measurement(reply(), ci_rel=0.02).reference_p50_ms == pytest.approx(4.0, rel=0.01)
    assert measurement(reply(reference_ms=None), ci_rel=0.02).reference_p50_ms is None


def test_the_idle_power_s_own_uncertainty_widens_the_dynamic_energy() -> None:
    raw = reply()
    t, w = np.array(raw["power"]["t_s"]), np.array(raw["power"]["w"])
    resting = w == 1.0
    w[resting] += 0.1 * np.sin(t[resting] * 2.0)
    unsteady = measurement(raw | {"power": raw["power"] | {"w": w.tolist()}}, ci_rel=0.02).power
    steady = measurement(reply(), ci_rel=0.02).power
    assert unsteady is not None
    assert steady is not None
    assert unsteady.energy_dynamic_mj is not None
    assert steady.energy_dynamic_mj is not None
    assert unsteady.energy_dynamic_mj.half_width > 10 * steady.energy_dynamic_mj.half_width
    assert unsteady.energy_total_mj.half_width == pytest.approx(steady.energy_total_mj.half_width)


def test_one_block_and_a_short_rest_give_finite_intervals() -> None:
    raw = reply() | {"idle": [[9.0, 9.5]]}
    for name in ("candidate", "reference"):
        raw[name] = raw[name] | {"blocks": raw[name]["blocks"][:1]}
    m = measurement(raw, ci_rel=0.02)
    assert m.power is not None
    assert m.power.energy_dynamic_mj is not None
    for interval in (m.p50_ms, m.power.mean_w, m.power.energy_total_mj, m.power.energy_dynamic_mj):
        assert np.isfinite([interval.value, interval.low, interval.high]).all()
    assert "few_samples" in m.flags


def test_an_estimate_of_power_says_so() -> None:
    raw = reply()
    power = measurement(raw | {"power": raw["power"] | {"estimated": True}}, ci_rel=0.02).power
    assert power is not None
    assert power.estimated


def test_an_old_throttling_that_only_sticks_is_not_held_against_the_candidate() -> None:
    raw = edit(edit(reply(), "before.throttled", "0x50000"), "after.throttled", "0x50000")
    assert measurement(raw, ci_rel=0.02).flags == ()


def test_unknown_telemetry_is_no_flag() -> None:
    raw = edit(edit(reply(), "before", {"throttled": None}), "after", {"throttled": None, "clock_mhz": None})
    m = measurement(raw, ci_rel=0.02)
    assert (m.flags, m.clock_mhz) == ((), None)


def test_a_wide_interval_is_noisy() -> None:
    raw = reply(reference_ms=None)
    for i, block in enumerate(raw["candidate"]["blocks"]):
        block["ms"] = [ms / (1 + i % 3) for ms in block["ms"]]
    assert "noisy" in measurement(raw, ci_rel=0.02).flags


def test_power_is_noisy_by_what_is_decided_by_its_ratio_where_there_is_a_reference() -> None:
    """Watts that jump from pair to pair leave the ratio sharp; those that jump between both blocks of a pair do not."""
    raw = reply()
    t, w = np.array(raw["power"]["t_s"]), np.array(raw["power"]["w"])
    since_first = t - 10.0
    by_pair = w * (1 + 0.5 * (since_first // 4.2 % 2))
    by_block = w * (1 + 0.5 * (since_first // 2.1 % 3 == 0))
    for watts, flags in ((by_pair, ()), (by_block, ("power_noisy",))):
        told = raw | {"power": raw["power"] | {"w": watts.tolist()}, "idle": []}
        assert measurement(told, ci_rel=0.02).flags == flags
        assert measurement(told | {"reference": None}, ci_rel=0.02).flags == ("power_noisy",)


def test_beside_a_reference_only_a_wide_ratio_is_noisy() -> None:
    raw = reply()
    for i, blocks in enumerate(zip(raw["candidate"]["blocks"], raw["reference"]["blocks"], strict=True)):
        for block in blocks:
            block["ms"] = [ms / (1 + i % 3) for ms in block["ms"]]
    both_slowed = measurement(raw, ci_rel=0.02)
    assert both_slowed.p50_ms.half_width > 0.02 * both_slowed.p50_ms.value
    assert "noisy" not in both_slowed.flags

    raw["candidate"] = reply()["candidate"]
    reference_slowed = measurement(raw, ci_rel=0.02)
    assert reference_slowed.p50_ms.half_width < 0.02 * reference_slowed.p50_ms.value
    assert "noisy" in reference_slowed.flags


def test_few_runs_are_flagged() -> None:
    raw = reply()
    raw["candidate"]["blocks"] = raw["candidate"]["blocks"][:2]
    assert "few_samples" in measurement(raw, ci_rel=0.02).flags


def test_a_sensor_that_paused_is_flagged() -> None:
    raw = reply()
    power = raw["power"]
    kept = [i for i, t in enumerate(power["t_s"]) if not 11.0 < t < 11.5]
    for key in ("t_s", "w"):
        power[key] = [power[key][i] for i in kept]
    assert "gaps" in measurement(raw, ci_rel=0.02).flags


@pytest.mark.parametrize(("dropped", "flagged"), [(None, False), (0, False), (0.04, False), (0.06, True), (2.0, True)])
def test_many_readings_that_could_not_be_true_are_flagged(dropped: float | None, flagged: bool) -> None:
    """Given as a share of those that were kept."""
    raw = reply()
    if dropped is not None:
        raw["power"]["dropped"] = round(dropped * len(raw["power"]["t_s"]))
    found = measurement(raw, ci_rel=0.02)
    assert ("odd_readings" in found.flags) == flagged
    assert ("odd_readings" in invalid(found.flags)) == flagged


def test_a_number_of_dropped_readings_that_cannot_be_is_refused() -> None:
    raw = reply()
    raw["power"]["dropped"] = -1
    with pytest.raises(ValueError, match="dropped"):
        measurement(raw, ci_rel=0.02)


def test_a_sensor_too_slow_for_the_blocks_is_flagged() -> None:
    raw = reply()
    power = raw["power"]
    for key in ("t_s", "w"):
        power[key] = power[key][::20]
    assert "blocks_too_short" in measurement(raw, ci_rel=0.02).flags


def test_a_value_counts_for_the_middle_of_the_time_it_covers() -> None:
    raw = reply()
    raw["power"]["t_s"] = [t + 0.15 for t in raw["power"]["t_s"]]
    late = measurement(raw, ci_rel=0.02).power
    raw["power"]["interval_s"] = 0.3
    centred = measurement(raw, ci_rel=0.02).power
    assert late is not None
    assert centred is not None
    assert late.mean_w.value != pytest.approx(3.0, abs=0.01)
    assert centred.mean_w.value == pytest.approx(3.0)


def test_idle_power_that_drifted_is_flagged() -> None:
    raw = reply()
    raw["power"]["w"][-250:] = [1.5] * 250
    assert "idle_drift" in measurement(raw, ci_rel=0.02).flags


def test_pairs_that_no_float_holds_the_interval_of_are_refused() -> None:
    """Two pairs, one of 2e13 J over 1e-12 J, the other the other way round."""
    raw = reply() | {"idle": []}
    edges = [(0.0, 2.5e9), (2.5e9, 5e9), (5e9, 7.5e9), (7.5e9, 1e10)]
    blocks = [{"start_s": start, "end_s": end, "ms": [1.0]} for start, end in edges]
    raw["candidate"], raw["reference"] = {"blocks": blocks[0::2]}, {"blocks": blocks[1::2]}
    watts = {"t_s": [0.0, 2.4e9, 2.6e9, 7.4e9, 7.6e9, 1e10], "w": [1e4, 1e4, 4.1e-22, 4.1e-22, 1e4, 1e4]}
    with pytest.raises(ValueError, match="give no finite high"):
        measurement(raw | {"power": raw["power"] | watts}, ci_rel=0.02)


def empty_blocks(raw: dict[str, Any]) -> None:
    raw["candidate"]["blocks"] = [{"start_s": 0, "end_s": 1, "ms": []}]


def sensor_died(raw: dict[str, Any]) -> None:
    raw["power"].update(t_s=[4.0, 5.0], w=[1.0, 1.0])


def sensor_silent(raw: dict[str, Any]) -> None:
    raw["power"].update(t_s=[], w=[])


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda raw: raw.pop("candidate"), "lacks what it should hold: candidate"),
        (lambda raw: raw.pop("after"), "lacks what it should hold"),
        (lambda raw: raw.update(candidate=3), "candidate: input should be .* found 3"),
        (lambda raw: raw["candidate"]["blocks"][0].update(ms=["fast"]), "no numbers"),
        (lambda raw: raw["candidate"]["blocks"][0].update(ms=[float("nan")]), "no numbers"),
        (lambda raw: raw["candidate"]["blocks"][0].update(ms=[-1.0]), "without duration"),
        (lambda raw: raw["candidate"]["blocks"][0].update(end_s=0.0), "without duration"),
        (
            lambda raw: raw["power"].update(scope="moon"),
            "scope: input should be 'module', 'board' or 'package', found 'moon'",
        ),
        (lambda raw: raw["after"].update(throttled="yes"), "after.throttled: .* found 'yes'"),
        (empty_blocks, "no latency samples"),
        (sensor_died, "no power samples while the candidate ran"),
        (sensor_silent, "no power samples while the candidate ran"),
    ],
)
def test_nonsense_from_the_board_is_refused(spoil: Callable[[dict[str, Any]], object], problem: str) -> None:
    raw = reply()
    spoil(raw)
    with pytest.raises(ValueError, match=problem):
        measurement(raw, ci_rel=0.02)
