"""What a meter's test means: every verdict on reports as data."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.devices.diagnostics.check import Finding
from pipeline.devices.diagnostics.sensor_findings import findings
from pipeline.measurement.sensor_quality import MeterReport
from pipeline.records import Device, MeasureSettings, PowerSettings
from tests.examples import device_facts

GOOD = MeterReport(
    source="ina219", scope="board", estimated=False, interval_s=0.0176, sample_s=0.018, refresh_s=0.018,
    repeated_share=0.0, rest_w=2.9, load_w=5.8, noise_w=0.02, noise_rel=0.007, lag1=0.4, rest_v=5.10, load_v=5.02,
    drop_v=0.08, longest_gap_s=0.02, gaps=0, samples=500,
)  # fmt: skip
FACTS = replace(device_facts(), board="Raspberry Pi 4 Model B Rev 1.4")
DEVICE = Device(
    name="pi4", kind="raspberry-pi-4", measure=MeasureSettings(block_s=2.0, min_s=10.0, max_s=60.0),
    power=PowerSettings(backend="ina219", options={"shunt_ohms": 0.1}),
)  # fmt: skip


def verdicts(report: MeterReport | None, error: str | None = None) -> dict[str, Finding]:
    found = list(findings(DEVICE, FACTS, report, error))
    assert all(f.fix for f in found if f.level in ("warn", "bad"))
    return {f.name: f for f in found}


def test_a_good_meter_has_nothing_but_ticks_and_says_what_it_measured() -> None:
    found = verdicts(GOOD)

    assert {f.level for f in found.values()} == {"ok"}
    assert found["watts"].detail == "2.90 W at rest, 5.80 W with all cores at work"
    assert "a new value every 18 ms" in found["rate"].detail
    assert "lag-1 autocorrelation 0.40" in found["noise"].detail


@pytest.mark.parametrize(("dropped", "level"), [(3, "ok"), (60, "warn")])
def test_readings_that_could_not_be_true_are_told_and_many_of_them_are_a_warning(dropped: int, level: str) -> None:
    found = verdicts(replace(GOOD, dropped=dropped))["meter"]

    assert (found.level, f"{dropped} dropped that could not be true" in found.detail) == (level, True)


@pytest.mark.parametrize("rest_w", [0.28, 41.0])
def test_watts_that_no_board_draws_mean_another_shunt(rest_w: float) -> None:
    found = verdicts(replace(GOOD, rest_w=rest_w, load_w=2 * rest_w))["watts"]

    assert (found.level, "shunt_ohms is 0.1" in found.fix, "R010 is 0.01" in found.fix) == ("bad", True, True)


def test_a_sensor_that_does_not_follow_the_load_is_bad() -> None:
    assert "does not follow" in verdicts(replace(GOOD, load_w=2.91))["watts"].detail


@pytest.mark.parametrize(
    ("volts", "level", "words"),
    [(5.0, "ok", "5.00 V at work"), (4.7, "warn", "close to the 4.63 V"), (4.5, "bad", "throttles")],
)
def test_voltage_under_load_is_held_against_the_pi_s_alarm(volts: float, level: str, words: str) -> None:
    found = verdicts(replace(GOOD, load_v=volts))["supply"]

    assert (found.level, words in found.detail) == (level, True)


def test_a_large_shunt_is_told_with_what_it_takes_away() -> None:
    fix = verdicts(replace(GOOD, load_w=9.0, load_v=4.5))["supply"].fix

    assert "a 0.02 Ω shunt instead of 0.1 Ω, which takes 0.20 V at this load" in fix


def test_a_supply_of_another_board_is_judged_by_how_much_it_gives_way() -> None:
    nano = replace(FACTS, board="NVIDIA Jetson Nano Developer Kit")
    (found,) = [f for f in findings(DEVICE, nano, replace(GOOD, load_v=4.7), None) if f.name == "supply"]

    assert (found.level, "gives way" in found.detail) == ("warn", True)


def test_a_sensor_without_volts_gets_no_verdict_on_the_supply() -> None:
    assert "supply" not in verdicts(replace(GOOD, rest_v=None, load_v=None, drop_v=None))


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        ({"refresh_s": 0.5}, "warn", "too few values in a block"),
        ({"refresh_s": None}, "bad", "hardly ever changes"),
        ({"gaps": 3, "longest_gap_s": 0.4}, "warn", "3 gaps, up to 0.40 s"),
    ],
)
def test_a_slow_stuck_or_halting_meter_is_told(change: dict[str, float], level: str, words: str) -> None:
    found = verdicts(replace(GOOD, **change))["rate"]  # type: ignore[arg-type]

    assert (found.level, words in found.detail) == (level, True)


def test_a_slow_meter_s_fix_is_the_block_that_suits_it() -> None:
    assert "block_s: 5, min_s: 25" in verdicts(replace(GOOD, refresh_s=0.5))["rate"].fix


def test_noise_and_estimates_are_told() -> None:
    found = verdicts(replace(GOOD, noise_rel=0.2, estimated=True))

    assert (found["noise"].level, found["meter"].level) == ("warn", "warn")


def test_a_test_that_failed_is_told_with_its_reason() -> None:
    found = verdicts(None, "the INA219 overflowed")

    assert (found["meter"].level, found["meter"].detail) == ("bad", "the INA219 overflowed")


def test_a_device_without_a_sensor_gets_no_verdict_on_one() -> None:
    assert verdicts(None) == {}
