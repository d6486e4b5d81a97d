"""report.html: whole at every stage of a run, self-contained, and safe whatever the names in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import OutputError
from pipeline.records import Interval, PruningPlan
from pipeline.report.charts import charts
from pipeline.report.contents import gather
from pipeline.report.html import write_report
from pipeline.report.table import comparison
from pipeline.store import Store
from pipeline.store.device_usage import Usage
from pipeline.store.facts import BASE, CALIBRATION, CONFIG, DEVICE, DEVICE_FACTS, SECONDS, SEED, SPACE, USAGE, VERSIONS
from tests.examples import (
    artifact,
    calibration,
    device_facts,
    failed_trial,
    figures,
    measurement,
    power,
    pruned_figures,
    space,
    trial,
)

HOSTILE = "<script>alert(1)</script>\"'&</title><!--"


class Page(HTMLParser):
    """A page taken apart: its elements with their attributes, the text of each script, and the rest of the text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._in: str | None = None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in = tag

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 - the base class names it
        self._in = None

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            self.scripts.append(data)
        elif self._in != "style":
            self.text += data

    @property
    def figures(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.scripts[0])
        return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "runs", label="digits") as store:
        yield store


@pytest.fixture
def report(store: Store, tmp_path: Path):
    def written() -> Page:
        write_report(store, tmp_path / "report.html")
        return Page(tmp_path / "report.html")

    return written


def fill(store: Store, **config: Any) -> None:
    store.set(CONFIG, {"model": "resnet20", "data": "cifar10:/data", "target": ["size=1MB", "latency=0.5x"], **config})
    store.set(DEVICE, {"name": "pi", "kind": "raspberry-pi-4"})
    store.set(DEVICE_FACTS, device_facts())
    store.set(VERSIONS, {"torch": "2.13.0"})
    store.set(SEED, 0)
    store.set(SPACE, space())
    store.set(BASE, figures())
    store.append(trial(1, accuracy=0.95, p50_ms=2.0, feasible=False, reward=0.2))
    store.append(trial(2, accuracy=0.90, p50_ms=1.0, reward=0.5))
    store.append(failed_trial(3))
    store.append(trial(4, accuracy=0.85, p50_ms=1.1, reward=0.4))
    store.add_artifact(artifact({"model.onnx": "ab" * 32}))
    store.set(SECONDS, 60.0)


def trace(page: Page, chart: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(t for t in page.figures[chart]["data"] if t.get("name") == name)
    return found


# ---------------------------------------------------------------- content


def test_a_whole_run_has_its_table_and_all_charts(store: Store, report: Any) -> None:
    fill(store)
    page = report()
    for text in ("resnet20 on cifar10, pruned for pi", "Raspberry Pi 4 Model B", "0.48× [0.47, 0.49]", "not measured",
                 "size=1MB, latency=0.5x", "4, 1 failed", "the runtime crashed", "torch 2.13.0", "seed 0"):  # fmt: skip
        assert text in page.text, text
    assert list(page.figures) == ["pareto", "levels", "rewards", "seconds"]
    ids = {attributes.get("id") for _, attributes in page.elements}
    assert set(page.figures) <= ids


def test_the_page_fetches_nothing(store: Store, report: Any) -> None:
    fill(store)
    page = report()
    assert not [(tag, a) for tag, a in page.elements if {"src", "href"} & set(a) or tag in ("link", "iframe", "img")]
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert sum("plotly.js v" in script for script in page.scripts) == 1


def test_the_pareto_plot_shows_each_trial_with_its_interval_the_front_and_the_target(store: Store, report: Any) -> None:
    fill(store)
    page = report()
    met = trace(page, "pareto", "meets the target")
    assert met["y"] == [0.90, 0.85]
    assert met["x"][0] == pytest.approx(1 / 2.73)
    assert met["error_x"]["array"] == [pytest.approx(0.01), pytest.approx(0.01)]
    assert trace(page, "pareto", "Pareto front")["y"] == [0.90, 0.95]
    assert trace(page, "pareto", "chosen, fine-tuned")["y"] == [0.80, 0.93]
    assert trace(page, "pareto", "base model")["x"] == [1.0]
    assert page.figures["pareto"]["layout"]["shapes"][0]["x0"] == 0.5
    assert "conv1: 50 %" in met["text"][0]
    assert "block.conv1: 75 %" in met["text"][0]


def test_without_pairs_latency_is_in_milliseconds_and_so_is_the_target(store: Store) -> None:
    fill(store)
    store.append(trial(5, measurement=measurement(1.5, ratio=None)))
    pareto = next(chart for chart in charts(gather(store)) if chart.name == "pareto")
    assert pareto.layout["xaxis"]["title"]["text"] == "median latency in ms"
    assert pareto.layout["shapes"][0]["x0"] == pytest.approx(0.5 * 2.73)


def test_every_latency_in_milliseconds_is_free_of_drift_as_the_table_is(store: Store, report: Any) -> None:
    fill(store)  # whose base model takes 2.73 ms
    store.append(trial(5, measurement=measurement(1.8, ratio=Interval(0.5, 0.49, 0.51), reference_p50_ms=3.6)))
    assert "1.36 ms ±0.03, 0.50× [0.49, 0.51]" in trace(report(), "pareto", "meets the target")["text"][-1]
    store.append(trial(6, measurement=measurement(1.5, ratio=None)))
    assert trace(report(), "pareto", "meets the target")["x"][-2:] == pytest.approx([1.365, 1.5])


def test_a_run_without_a_latency_target_has_no_line(store: Store) -> None:
    fill(store, target=["size=1MB"])
    assert all("shapes" not in chart.layout for chart in charts(gather(store)))


def test_the_levels_say_what_is_left_of_each_group(store: Store, report: Any) -> None:
    fill(store)
    levels = report().figures["levels"]
    assert levels["data"][0]["x"] == [0.5, 0.25]
    assert [a["text"] for a in levels["layout"]["annotations"]] == ["8 of 16", "4 of 16"]


def test_of_single_weights_it_says_how_many_of_each_layer_are_left_and_that_zeros_change_no_latency(
    store: Store, report: Any
) -> None:
    fill(store)
    assert "Zero weights make no dense runtime faster" not in report().text
    store.set(SPACE, replace(space(), weights={"conv1.weight": 40, "fc.weight": 1000}))
    store.add_artifact(artifact({}, plan=PruningPlan(levels=(0, 0), zeros=(0.75, 0.0))))
    page = report()
    levels = page.figures["levels"]
    assert levels["data"][0]["x"] == [0.25, 1.0]
    assert [a["text"] for a in levels["layout"]["annotations"]] == ["10 of 40", "1,000 of 1,000"]
    assert levels["layout"]["yaxis"]["ticktext"] == ["conv1", "fc"]
    assert "Zero weights make no dense runtime faster" in page.text


def test_a_removed_block_is_said_to_be_removed(store: Store, report: Any) -> None:
    fill(store)
    store.add_artifact(artifact({}, plan=PruningPlan(levels=(0, 100))))
    assert report().figures["levels"]["layout"]["annotations"][1]["text"] == "removed"


def test_rewards_have_a_running_best_and_failures_are_marked(store: Store, report: Any) -> None:
    fill(store)
    page = report()
    assert trace(page, "rewards", "best that meets it")["y"] == [0.5, 0.5]
    failed = trace(page, "rewards", "failed")
    assert (failed["x"], failed["y"]) == ([3], [0.2])


def test_time_is_summed_by_stage_and_the_rest_is_named(store: Store, report: Any) -> None:
    fill(store)
    bars = report().figures["seconds"]["data"][0]
    taken = dict(zip(bars["y"], bars["x"], strict=True))
    assert taken["measure"] == pytest.approx(7.5)
    assert taken["base model, finalists and the rest"] == pytest.approx(60 - 7.5 - 0.7)


def test_measured_power_stands_in_the_table(store: Store, report: Any) -> None:
    fill(store)
    store.set(BASE, figures(measurement=measurement(2.73, power=power(4.0))))
    store.add_artifact(artifact({}, after=pruned_figures(measurement=measurement(power=power(3.0)))))
    text = report().text
    assert "3.00 W ±0.05 (ina219, board)" in text
    assert "not measured" not in text


# ---------------------------------------------------------------- runs that are not so far


def test_an_empty_run_has_a_page_that_says_so(report: Any) -> None:
    page = report()
    assert "No trial has been made yet. This run is running." in page.text
    assert page.figures == {}


def test_a_run_of_failures_alone_has_a_page(store: Store, report: Any) -> None:
    for index in range(3):
        store.append(failed_trial(index))
    page = report()
    assert "No network has been chosen yet." in page.text
    assert "3× the runtime crashed" in page.text
    assert "pareto" not in page.figures
    assert trace(page, "rewards", "failed")["x"] == [0, 1, 2]


def test_a_run_in_the_middle_has_its_charts_before_anything_is_chosen(store: Store, report: Any) -> None:
    store.append(trial(1))
    assert set(report().figures) == {"pareto", "rewards", "seconds"}


def test_plans_of_an_earlier_round_are_shown_by_their_widths(store: Store, report: Any) -> None:
    fill(store)
    store.append(trial(9, plan=PruningPlan(levels=(25, 25, 25)), key="12-12-12"))
    assert "channels 12-12-12" in trace(report(), "pareto", "meets the target")["text"][-1]


def test_an_artifact_of_another_round_leaves_the_levels_out(store: Store, report: Any) -> None:
    fill(store)
    store.add_artifact(artifact({}, plan=PruningPlan(levels=(25, 25, 25))))
    assert "levels" not in report().figures


# ---------------------------------------------------------------- safety


def test_names_from_outside_are_shown_and_never_become_markup(store: Store, report: Any) -> None:
    fill(store, model=HOSTILE, data=HOSTILE, target=[HOSTILE], strategy=HOSTILE)
    store.set(DEVICE, {"name": HOSTILE})
    store.set(VERSIONS, {HOSTILE: HOSTILE})
    hostile_space = replace(space(), groups=tuple(replace(g, name=HOSTILE + g.name) for g in space().groups))
    store.set(SPACE, hostile_space)
    store.append(failed_trial(7, HOSTILE))
    store.append(trial(8, key=HOSTILE, terms={HOSTILE: 1.0}, seconds={HOSTILE: 1.0}))
    flagged = measurement(flags=(HOSTILE,), ratio=Interval(0.5, 0.4, 0.6))
    store.append(trial(9, measurement=flagged, plan=PruningPlan(levels=(1, 2, 3), criterion=HOSTILE)))
    page = report()
    assert [tag for tag, _ in page.elements].count("script") == 3
    assert "alert" not in page.scripts[1][:200] + page.scripts[2]
    assert HOSTILE in page.text
    texts = json.dumps(page.figures)
    assert "alert(1)" in texts
    assert "<script" not in texts
    raw = store.path.parents[1].joinpath("report.html").read_text(encoding="utf-8")
    embedded = re.search(r'id="figures">(.*?)</script>', raw, re.DOTALL)
    assert embedded is not None
    assert not set("<>&") & set(embedded[1])


def test_a_report_replaces_an_older_one_and_leaves_nothing_beside_it(store: Store, tmp_path: Path) -> None:
    for _ in range(2):
        write_report(store, tmp_path / "out.html")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["out.html", "runs"]


def test_a_report_that_cannot_be_written_says_where(store: Store, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"nowhere/report\.html cannot be written: No such file"):
        write_report(store, tmp_path / "nowhere" / "report.html")


def test_how_the_devices_time_was_spent_and_its_drift_are_told(store: Store, report: Any) -> None:
    store.set(USAGE.of(1), Usage(wall_s=10, measuring_s=9.2, asking_s=0.3, building_s=0.5, rest_s=0, shared=False))
    store.append(trial(90, measurement=measurement(reference_p50_ms=2.0)))
    store.append(trial(91, measurement=measurement(reference_p50_ms=2.2)))
    page = report()
    assert "device measuring 92.0 %, idle 8.0 %" in page.text
    assert "base model beside 2 trials: 2 → 2.2 ms (+10.0 %)" in page.text


def test_the_calibration_of_the_device_is_told_and_that_there_is_none(store: Store, report: Any) -> None:
    assert "Calibration of the devicenone" in report().text
    store.set(CALIBRATION, calibration())
    assert f"Calibration of the device{calibration()}" in report().text


def test_what_was_put_aside_is_explained_and_drawn_as_no_figure(store: Store, report: Any) -> None:
    invalid = measurement(flags=("throttled",), conditions={"times_measured": 3})
    store.append(trial(90, measurement=invalid, failure="quarantined: throttled, measured 3 times", reward=None))
    page = report()
    assert "quarantined: throttled, measured 3 times" in page.text
    assert "throttled: the firmware slowed the processor down." in page.text
    assert 90 not in [t.index for t in gather(store).measured]


def test_estimated_power_is_called_so(store: Store) -> None:
    told = power(estimated=True, source="pmic")
    rows = {row.measure: row for row in comparison(figures(measurement=measurement(power=power())),
                                                   pruned_figures(measurement=measurement(power=told)))}  # fmt: skip
    assert rows["Power"].pruned.endswith("(pmic, board, estimated)")
    assert rows["Energy an inference"].pruned.endswith("(estimated)")
    assert rows["Power"].change == rows["Energy an inference"].change == ""
