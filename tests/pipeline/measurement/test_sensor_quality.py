from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.measurement.sensor_quality import meter_report


def window(
    w: list[float], *, start_s: float = 0.0, step_s: float = 0.02, v: list[float] | None = None
) -> dict[str, Any]:
    t = [start_s + step_s * (i + 1) for i in range(len(w))]
    return {"start_s": start_s, "end_s": t[-1], "t_s": t, "w": w, "v": v}


@pytest.fixture
def raw() -> dict[str, Any]:
    """A meter that gives a new value at every second sample: noise of 10 mW on 2 W, 3 W under load, 0.1 V lost."""
    noise = np.random.default_rng(0).normal(0, 0.01, 400).repeat(2)
    return {
        "about": {"source": "ina219", "scope": "board", "interval_s": 0.0176, "estimated": False},
        "rest": window(list(2 + noise[:400]), v=[5.1] * 400),
        "load": window(list(3 + noise[400:]), start_s=20.0, v=[5.0] * 400),
    }


def test_a_meter_that_repeats_itself_shows_its_real_refresh_interval(raw: dict[str, Any]) -> None:
    report = meter_report(raw)

    assert report.sample_s == pytest.approx(0.02)
    assert report.refresh_s == pytest.approx(0.04)
    assert report.repeated_share == pytest.approx(0.5, abs=0.01)
    assert report.lag1 == pytest.approx(0.5, abs=0.1)


def test_power_noise_and_voltage_are_told_at_rest_and_under_load(raw: dict[str, Any]) -> None:
    report = meter_report(raw)

    assert (report.rest_w, report.load_w) == (pytest.approx(2, abs=0.01), pytest.approx(3, abs=0.01))
    assert report.noise_w == pytest.approx(0.01, rel=0.15)
    assert report.noise_rel == pytest.approx(0.005, rel=0.15)
    assert (report.rest_v, report.load_v, report.drop_v) == (5.1, 5.0, pytest.approx(0.1))
    assert report.follows
    assert (report.source, report.scope, report.estimated, report.interval_s) == ("ina219", "board", False, 0.0176)


def test_a_short_dip_of_the_supply_is_not_averaged_away(raw: dict[str, Any]) -> None:
    raw["load"]["v"][100:140] = [4.6] * 40

    assert meter_report(raw).drop_v == pytest.approx(0.5)


def test_a_steady_drift_is_no_noise(raw: dict[str, Any]) -> None:
    raw["rest"]["w"] = list(np.array(raw["rest"]["w"]) + np.linspace(0, 0.5, 400))

    assert meter_report(raw).noise_w == pytest.approx(0.01, rel=0.15)


def test_the_time_in_which_the_load_comes_up_does_not_count(raw: dict[str, Any]) -> None:
    raw["load"]["w"][:20] = [2.0] * 20

    assert meter_report(raw).load_w == pytest.approx(3, abs=0.01)


def test_a_gap_is_counted(raw: dict[str, Any]) -> None:
    for name in ("t_s", "w", "v"):
        del raw["rest"][name][100:130]

    report = meter_report(raw)

    assert (report.gaps, report.longest_gap_s) == (1, pytest.approx(0.62))


def test_a_meter_that_stands_still_has_no_refresh_interval_and_does_not_follow(raw: dict[str, Any]) -> None:
    raw["rest"]["w"] = raw["load"]["w"] = [2.0] * 400
    raw["rest"]["v"] = raw["load"]["v"] = None

    report = meter_report(raw)

    assert (report.refresh_s, report.repeated_share, report.noise_w, report.lag1) == (None, 1.0, 0.0, 0.0)
    assert (report.rest_v, report.load_v, report.drop_v) == (None, None, None)
    assert not report.follows


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda raw: raw.pop("load"), "lacks what it should hold"),
        (lambda raw: raw["about"].pop("source"), "lacks what it should hold"),
        (lambda raw: raw["rest"].update(window([2.0] * 9)), "gave 9 values under rest, at least 10"),
        (lambda raw: raw["rest"].update(t_s=[1.0] * 400), "not in the order of time"),
        (lambda raw: raw["rest"]["w"].pop(), "not in the order of time"),
        (lambda raw: raw["rest"]["w"].__setitem__(3, float("nan")), "no numbers"),
    ],
)
def test_a_reply_that_cannot_be_true_is_refused(raw: dict[str, Any], change: Any, complaint: str) -> None:
    change(raw)

    with pytest.raises(ValueError, match=complaint):
        meter_report(raw)
