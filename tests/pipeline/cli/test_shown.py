"""What `runs show` says of a run as it stands in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.cli.views.run import print_run
from pipeline.records import Interval
from pipeline.report.run_json import as_json
from pipeline.store import Store
from pipeline.store.device_usage import Usage
from pipeline.store.facts import BASE, CONFIG, USAGE
from tests.examples import failed_trial, figures, measurement, trial


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path, label="shown") as made:
        made.set(BASE, figures(measurement=measurement(2.0, ratio=None)))
        yield made


@pytest.fixture
def shown(store: Store, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    def text() -> str:
        print_run(store)
        return capsys.readouterr().out

    return text


def test_a_failed_trial_and_one_that_was_put_aside_say_why(store: Store, shown: Callable[[], str]) -> None:
    invalid = measurement(flags=("throttled", "noisy"), conditions={"times_measured": 3})
    told = "quarantined: throttled, measured 3 times"
    store.append(failed_trial(0, "the runtime crashed"))
    store.append(trial(1, measurement=invalid, failure=told, reward=None, feasible=False))
    store.append(trial(2))
    found = shown()
    assert "failed: the runtime crashed" in found
    (line,) = [line for line in found.splitlines() if told in line]
    assert "failed" not in line
    assert "ms" not in line  # no figure that nobody may use
    assert "throttled: the firmware slowed the processor down" in found
    assert [t.index for t in store.pareto()] == [2]
    assert as_json(store)["trials"][1]["measurement"]["flags"] == ["throttled", "noisy"]


def test_latencies_are_shown_free_of_drift(store: Store, shown: Callable[[], str]) -> None:
    hot = {"ratio": Interval(0.5, 0.49, 0.51), "reference_p50_ms": 2.4}
    store.append(trial(0, measurement=measurement(0.9, ratio=Interval(0.5, 0.4, 0.6), reference_p50_ms=2.0)))
    store.append(trial(1, measurement=measurement(1.2, **hot)))
    found = shown()
    assert [line.split()[3] for line in found.splitlines() if line.startswith(("0 ", "1 "))] == ["1", "1"]
    assert "drift: base model beside 2 trials: 2 → 2.4 ms (+20.0 %)" in found
    assert as_json(store)["drift"]["share"] == pytest.approx(0.2)


def test_how_the_devices_time_was_spent_is_shown_for_each_round(store: Store, shown: Callable[[], str]) -> None:
    store.set(CONFIG, {"rounds": 2})
    for number in (1, 2):
        store.set(
            USAGE.of(number),
            Usage(wall_s=10, measuring_s=9.2, asking_s=0.3, building_s=0.5, rest_s=0, shared=False),
        )
    assert "round 2: device measuring 92.0 %, idle 8.0 % (ask 3.0, build 5.0, rest 0.0)" in shown()
    assert as_json(store)["usage"]["2"]["idle_s"] == pytest.approx(0.8)


def test_a_candidate_that_was_stopped_early_is_marked(store: Store, shown: Callable[[], str]) -> None:
    store.append(trial(0, measurement=measurement(early=True), feasible=False))
    assert "✗↯" in shown()
