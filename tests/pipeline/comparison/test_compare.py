"""Which runs make a group, which are refused, and what a reader is warned of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.baselines.stored import MAGNITUDE, baseline_entries, known_baselines, missing
from pipeline.comparison.compare import Comparison, comparison
from pipeline.comparison.run_figures import Entry, read, settings_of
from pipeline.errors import UserError
from pipeline.records import Baseline, Interval, PrecisionDecision, PruningPlan
from pipeline.search.reward import channels_gone
from pipeline.store import Store
from pipeline.store.facts import BASE_WEIGHTS, BASELINE, CONFIG, DEVICE, GIT, PRECISION, SPLITS
from tests.examples import figures, measurement, power, pruned_figures, space, trial
from tests.pipeline.comparison.stores import finished_run

Made = Callable[..., Entry]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Make a run's entry by the settings and figures of its run."""

    def make(**told: Any) -> Entry:
        with Store.open(tmp_path, finished_run(tmp_path, **told)) as store:
            return read(store)

    return make


def repeated(entry: Entry, seeds: int, latency_ratio: float = 0.5) -> list[Entry]:
    """The run again with other seeds: each a little more accurate and a little slower."""
    return [
        replace(entry, run=f"{entry.run}-{seed}", seed=seed, figures={
            **entry.figures, "test_accuracy": 0.9 + seed / 100, "latency_ratio": latency_ratio + seed / 100,
        })
        for seed in range(seeds)
    ]  # fmt: skip


def compared(*entries: Entry) -> Comparison:
    return comparison(entries, {})


def test_runs_that_differ_in_the_seed_alone_are_one_group_named_by_what_sets_it_apart(made: Made) -> None:
    entries = [made(seed=seed, strategy=name) for name in ("dqn", "random") for seed in (0, 1)]
    found = compared(*entries, made(seed=0, strategy="random", criterion="taylor"))
    assert {group.name: [run.seed for run in group.runs] for group in found.groups} == {
        "dqn, l1": [0, 1], "random, l1": [0, 1], "random, taylor": [0],
    }  # fmt: skip
    assert found.shared["target"] == "latency=0.5x"
    assert "strategy" not in found.shared
    assert not any(key.startswith("strategy_options") for group in found.groups for key in group.differs)


def test_a_single_group_is_named_by_its_strategy(made: Made) -> None:
    assert [group.name for group in compared(made(seed=0), made(seed=1)).groups] == ["dqn"]


def test_runs_that_auto_decided_otherwise_for_are_set_apart(tmp_path: Path) -> None:
    decided = PrecisionDecision(precision="int8", why="faster")
    for run in ({"facts": {PRECISION: decided}}, {"facts": {PRECISION: decided}, "precision": "int8"}, {}):
        with Store.open(tmp_path, finished_run(tmp_path, **run)) as store:  # type: ignore[arg-type]
            (chosen,) = store.artifacts()
            assert settings_of(store, chosen)["precision"] == ("int8" if "facts" in run else "float32")


def test_settings_of_the_dqn_set_apart_the_runs_that_have_one(made: Made) -> None:
    runs = [made(dqn={"hidden": 64}), made(dqn={"hidden": 32}), made(strategy="random", dqn={"hidden": 16})]
    assert [group.name for group in compared(*runs).groups] == ["dqn, hidden 64", "dqn, hidden 32", "random"]


def test_a_setting_that_only_some_runs_have_sets_them_apart(made: Made) -> None:
    runs = [made(), made(reward={"layers": {"conv1": {"gamma": 0.5}}}), made(pruning={"min_channels": {"conv1": 8}})]
    neither = {"pruning.min_channels.conv1": "", "reward.layers.conv1.gamma": ""}
    assert [group.differs for group in compared(*runs).groups] == [
        neither, {**neither, "reward.layers.conv1.gamma": "0.5"}, {**neither, "pruning.min_channels.conv1": "8"},
    ]  # fmt: skip


def test_settings_of_another_version_are_taken_as_they_are(tmp_path: Path) -> None:
    name = finished_run(tmp_path)
    with Store.open(tmp_path, name, write=True) as store:
        store.set(CONFIG, {**store.get(CONFIG), "forgotten": {"key": 3}})
        assert read(store).settings["forgotten.key"] == "3"


def test_weights_count_by_their_content_and_files_by_their_names(made: Made) -> None:
    one = made(seed=0, weights="a/net.pt", model="/home/one/net.py:Net", facts={BASE_WEIGHTS: "12345678ff"})
    two = made(seed=1, weights="/b/net.pt", model="net.py:Net", facts={BASE_WEIGHTS: "12345678ff"})
    other = made(seed=0, weights="a/net.pt", model="net.py:Net", facts={BASE_WEIGHTS: "99999999ff"})
    assert [group.name for group in compared(one, two, other).groups] == [
        "weights net.pt (12345678)", "weights net.pt (99999999)",
    ]  # fmt: skip


def test_the_same_seed_twice_is_no_second_sample(made: Made) -> None:
    first, again = sorted((made(seed=0), made(seed=0)), key=lambda entry: entry.run)
    found = compared(again, first, made(seed=1))
    (group,) = found.groups
    assert group.runs[0].run == again.run
    assert found.left_out == {first.run: f"{again.run} has the same settings and the same seed, 0"}


def test_figures_come_with_their_spread_their_tests_and_their_lines(made: Made) -> None:
    dqn = [
        made(seed=s, accuracy=a, latency_ratio=r) for s, (a, r) in enumerate([(0.93, 0.5), (0.94, 0.48), (0.92, 0.49)])
    ]
    other = [made(seed=s, strategy="random", accuracy=a) for s, a in enumerate([0.90, 0.89, 0.91])]
    found = compared(*dqn, *other)
    group = found.groups[0]
    assert group.metrics["test_accuracy"].mean == pytest.approx(0.93)
    assert group.metrics["test_accuracy"].sd == pytest.approx(0.01)
    assert group.metrics["latency_ratio"].mean == pytest.approx(0.49)
    assert group.runs[0].intervals["test_accuracy"].low < 0.93 < group.runs[0].intervals["test_accuracy"].high
    # The front is (0.6, 0.55), (0.7, 0.65), (0.8, 0.75), (0.9, 0.85); what was cached is the first once more.
    assert group.metrics["hypervolume"].mean == pytest.approx(0.1 * (0.45 + 0.55 + 0.65 + 0.75))
    (pair,) = found.differences["test_accuracy"]
    assert (pair.one, pair.other, pair.difference.value) == ("dqn", "random", pytest.approx(0.03))
    assert pair.p is not None
    assert pair.p < 0.05
    assert found.differences["parameters"][0].p is None  # they never vary
    latency = found.differences["latency_ms"][0]
    assert (latency.p is None, latency.p_holm) == (False, None)  # not shown, and so no part of the family
    accuracy = group.lines["accuracy"]
    assert (accuracy.count, accuracy.slope.count) == (12, 3)  # four networks a run, each once
    assert accuracy.slope.mean < 0
    assert (accuracy.p, accuracy.why_no_p) == (None, "equal slopes")  # the example's runs measured the same networks
    assert "power_ratio" not in group.lines


def test_intensity_is_the_rewards_share_of_channels_that_are_gone() -> None:
    assert channels_gone(space(), (25, 100)) == [0.25, 1.0]


def test_later_rounds_cut_another_network_so_that_their_plans_have_no_intensity(tmp_path: Path) -> None:
    name = finished_run(tmp_path, rounds=2)
    with Store.open(tmp_path, name, write=True) as store:
        later = PruningPlan(levels=(25, 0))
        store.append(trial(20, round=2, plan=later, key="another"))
        points = read(store).points
    assert [point.intensity for point in points] == pytest.approx([0.125, 0.5, 0.75, 0.5, None])


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((1, 3), ["a single seed in dqn", "fewer than 5 seeds in random"]),
        ((2, 5), ["two seeds in dqn"]),
        ((5, 5), []),
    ],
)
def test_too_few_seeds_are_said_and_a_single_one_is_not_tested(
    made: Made, counts: tuple[int, int], words: list[str]
) -> None:
    groups = zip((made(), made(strategy="random")), counts, strict=True)
    runs = [run for entry, seeds in groups for run in repeated(entry, seeds)]
    found = compared(*runs)
    assert [warning.startswith(word) for warning, word in zip(found.warnings, words, strict=True)] == [True] * len(
        words
    )
    assert bool(found.differences) == (min(counts) > 1)


def test_another_data_set_is_refused(made: Made) -> None:
    other = made(facts={SPLITS: {"checksum": "d2", "test": 400}})
    with pytest.raises(UserError, match="cannot be compared: their data differs"):
        compared(made(), other)


def test_latency_is_tested_within_a_device_only(made: Made) -> None:
    nano = {DEVICE: {"name": "nano", "kind": "jetson-nano", "power": "null"}}
    runs, others = repeated(made(), 3), repeated(made(facts=nano), 3, 0.6)
    found = compared(*runs, *others)
    assert "test_accuracy" in found.differences
    assert not {"latency_ratio", "latency_ms", "hypervolume"} & set(found.differences)
    assert any("not all runs were measured on one device" in warning for warning in found.warnings)
    uniform = repeated(made(strategy="uniform"), 3, 0.7)
    (pair,) = compared(*runs, *others, *uniform).differences["latency_ratio"]
    assert (pair.one, pair.other) == (
        "dqn, pi",
        "uniform, pi",
    )


def test_measured_and_estimated_power_stand_apart(made: Made) -> None:
    runs = [made(seed=seed) for seed in range(2)]
    told = [replace(runs[0], figures={"power_w": 3.0}), replace(runs[1], figures={"power_estimated_w": 2.0})]
    found = compared(*told)
    assert not {"power_w", "power_estimated_w"} & set(found.groups[0].metrics)  # neither is of all runs
    assert any("measured in some runs and estimated in others" in warning for warning in found.warnings)


def test_power_goes_by_whether_it_was_measured(tmp_path: Path) -> None:
    from pipeline.comparison.run_figures import figures_of

    for estimated, name in ((False, "power_w"), (True, "power_estimated_w")):
        network = pruned_figures(measurement=measurement(power=power(estimated=estimated)))
        assert figures_of(network, figures(measurement=measurement(2.73)), 400)[0][name] == 3.2


def test_power_and_energy_stand_on_the_footing_of_latency(tmp_path: Path) -> None:
    from pipeline.comparison.run_figures import figures_of

    ratios = {"power_ratio": Interval(0.8, 0.79, 0.81), "energy_ratio": Interval(0.4, 0.39, 0.41)}
    network = pruned_figures(measurement=measurement(1.0, ratio=Interval(0.5, 0.49, 0.51), power=power(3.5), **ratios))
    found, intervals = figures_of(network, figures(measurement=measurement(2.6, power=power(4.0))), 400)
    assert [found[name] for name in ("latency_ms", "power_w", "energy_mj")] == pytest.approx([1.3, 3.2, 0.4 * 5.2])
    assert intervals["power_w"].half_width == pytest.approx(math.hypot(0.01 * 4.0, 0.8 * 0.05))  # as the latency's


def test_another_state_of_the_program_is_said(made: Made) -> None:
    found = compared(made(seed=0), made(seed=1, facts={GIT: "def-dirty"}))
    assert any("different states of the program (abc, def-dirty)" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"finished": False}, "it is interrupted"),
        ({"accuracy": None}, "the test accuracy of its chosen network is missing"),
    ],
)
def test_a_run_without_its_last_figures_is_not_read(made: Made, told: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        made(**told)


def test_stored_baselines_stand_beside_their_runs_as_groups(tmp_path: Path) -> None:
    entries = []
    for seed in range(3):
        name = finished_run(tmp_path, seed=seed, accuracy=0.93 + seed / 100)
        with Store.open(tmp_path, name, write=True) as store:
            assert missing(store) == ["magnitude", "l1-in-training"]
            cut = pruned_figures(test_accuracy=0.90 + seed / 200)
            store.set(BASELINE.of(MAGNITUDE), Baseline(name=MAGNITUDE, figures=cut, share=0.5, channels={"conv1": 8}))
            store.set(BASELINE.of("l1-in-training"), Baseline(name="l1-in-training", figures=None, why_not="too slow"))
            assert missing(store) == []
            own = read(store)
            entries += [own, *baseline_entries(store, own, known_baselines(store))]
    found = compared(*entries)
    means = {group.name: group.metrics["test_accuracy"].mean for group in found.groups}
    assert means == pytest.approx({"dqn": 0.94, "baseline none": 0.94, "baseline magnitude": 0.905})
    assert found.groups[1].metrics["latency_ratio"].mean == 1.0
    assert found.anova.keys() == set()  # the base model never varies
    assert {(d.one, d.other) for d in found.differences["test_accuracy"]} >= {("dqn", "baseline magnitude")}
