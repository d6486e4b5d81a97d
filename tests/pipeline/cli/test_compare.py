"""`pipeline compare`: on runs made of example records, and with baselines beside a real one."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.cli.commands.compare import compare
from pipeline.errors import ConfigError, RunNotFoundError, UserError
from pipeline.store import Store
from pipeline.store.facts import BASE_WEIGHTS, CONFIG, DEVICE, SEED
from tests.command_line import Desk
from tests.pipeline.comparison.stores import finished_run


def printed(capsys: pytest.CaptureFixture[str], runs: Path, *names: str, **told: Any) -> str:
    compare(list(names), runs=runs, **{"baselines": False, "csv_file": None, "inventory": None, "json": False, **told})
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def two_groups(root: Path) -> list[str]:
    """Three seeds each of two strategies."""
    accuracies = {"dqn": (0.93, 0.94, 0.92), "random": (0.90, 0.89, 0.91)}
    return [
        finished_run(root, seed=seed, strategy=name, accuracy=accuracy)
        for name, seeds in accuracies.items()
        for seed, accuracy in enumerate(seeds)
    ]


def test_tables_say_what_groups_came_to_and_whether_they_differ(
    root: Path, two_groups: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = printed(capsys, root, *two_groups)
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "dqn 0, 1, 2 93.00 % ± 0.58 [90.5, 95.5] 0.50×" in lines
    # Both spread by one point: t = 3 / √(2/3), 4 degrees of freedom; g = 3 c(4).
    (row,) = [line for line in lines if line.startswith("test accuracy dqn")]
    assert row.startswith("test accuracy dqn − random 3.0 points [0.7, 5.3] 3.67 (4.0) 0.021 0.021 2.39 [0.")
    assert any(line.startswith("warning fewer than 5 seeds in dqn; random") for line in lines)
    assert "hypervolume, search split" in shown  # the networks on the front were picked by it
    assert "all runs read the same test images: ± 3.1 points" in shown  # 400 of them, 89 % right
    assert not [line for line in lines if line.startswith("best search accuracy dqn")]


def test_tests_are_one_family_and_a_slope_is_tested_between_runs(
    root: Path, two_groups: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = printed(capsys, root, *two_groups)
    assert "p, Holm: over the 1 test of this table" in shown  # nothing else varies in these runs
    rows = [" ".join(line.split()) for line in shown.splitlines() if line.startswith("search accuracy ")]
    assert rows[0] == "search accuracy dqn −4.7 points 0.88 none: equal slopes 3 12"
    lone = printed(capsys, root, two_groups[0])
    (row,) = [" ".join(line.split()) for line in lone.splitlines() if line.startswith("search accuracy")]
    assert row == "search accuracy dqn −4.7 points 0.88 none: 1 run 1 4"


def test_a_group_that_never_varies_is_named_and_the_others_are_tested(
    root: Path, tmp_path: Path, two_groups: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(root, tmp_path / "runs")
    third = [finished_run(tmp_path / "runs", seed=s, strategy="evolution", accuracy=0.9 + s / 50) for s in range(3)]
    never = [finished_run(tmp_path / "runs", seed=seed, strategy="uniform", accuracy=0.88) for seed in range(3)]
    shown = " ".join(printed(capsys, tmp_path / "runs", *two_groups, *third, *never).split())
    assert "test accuracy: uniform" in shown.partition("left out of ANOVA and Games-Howell ")[2]
    assert "Welch's ANOVA, all groups that vary test accuracy: F " in shown
    assert "over the 6 tests of this table; Games-Howell: over the pairs of one metric" in shown


def test_columns_make_one_table_of_their_own(
    root: Path, two_groups: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """AKPERL's: method, accuracy, power, time, sparsity; power was not measured here, and has no column."""
    shown = printed(capsys, root, *two_groups, columns="test_accuracy,power_w,latency_ms,channels_gone")
    header = " ".join(next(line for line in shown.splitlines() if line.lstrip().startswith("group")).split())
    assert header == "group seeds test accuracy latency channels gone"
    with pytest.raises(ConfigError, match=r"'sparsity' is no metric; choose among test_accuracy, .*channels_gone"):
        printed(capsys, root, *two_groups, columns="test_accuracy,sparsity")


def test_how_often_layers_were_pruned_is_counted_over_trials_and_seeds(
    root: Path, two_groups: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = printed(capsys, root, *two_groups, frequency=True)
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert sum(line.startswith("layer, in ") for line in lines) == 2
    assert any("share of 6 plans that cut several layers" in line for line in lines)  # two a run, of three seeds
    found = json.loads(printed(capsys, root, *two_groups, frequency=True, json=True))
    (first, _) = found["frequencies"]["dqn"]["layers"]
    assert first["plans"]["50"] == first["plans"]["75"] == 3


def test_json_says_everything_and_csv_has_a_line_a_run(
    root: Path, tmp_path: Path, two_groups: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(printed(capsys, root, *two_groups, json=True, csv_file=tmp_path / "runs.csv"))
    assert [group["name"] for group in found["groups"]] == ["dqn", "random"]
    assert found["differences"]["test_accuracy"][0]["p"] == pytest.approx(0.0213, abs=1e-4)
    assert "baselines" not in found
    assert found["frequencies"] == {}
    with (tmp_path / "runs.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["run"], row["seed"], row["group"]) for row in rows[:2]] == [
        (two_groups[0], "0", "dqn"), (two_groups[1], "1", "dqn"),
    ]  # fmt: skip
    assert float(rows[3]["test_accuracy"]) == 0.90


def test_a_run_may_be_named_by_its_folder_and_counts_once(
    root: Path, tmp_path: Path, two_groups: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(root / name) for name in two_groups[:2]]
    found = json.loads(printed(capsys, tmp_path / "elsewhere", *folders, folders[0], json=True))
    assert [run["run"] for run in found["groups"][0]["runs"]] == two_groups[:2]


def test_names_that_are_long_become_letters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [
        finished_run(tmp_path, seed=0, fine_tuning={"epochs": e, "momentum": e / 10, "finalists": e}) for e in (2, 4)
    ]
    shown = printed(capsys, tmp_path, *names)
    assert "A  fine_tuning.epochs 2.0, fine_tuning.finalists 2, fine_tuning.momentum 0.2" in shown
    assert "warning  a single seed in A; B" in shown


def test_an_unfinished_run_is_left_out_with_the_reason_and_alone_is_an_error(
    root: Path, two_groups: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    half = finished_run(root, seed=7, finished=False)
    shown = printed(capsys, root, *two_groups, half)
    assert f"left out  {half}: it is interrupted, so that no network was chosen yet" in shown
    with pytest.raises(UserError, match=f"there is nothing to compare: {half}: it is interrupted"):
        printed(capsys, root, half)
    with pytest.raises(RunNotFoundError, match="there is no run 'nonsense'"):
        printed(capsys, root, two_groups[0], "nonsense")


def test_baselines_of_a_recording_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = finished_run(tmp_path, facts={DEVICE: {"name": "pi", "kind": "replay"}})
    with pytest.raises(UserError, match="played back from a recording"):
        printed(capsys, tmp_path, name, baselines=True)


def test_baselines_of_a_run_that_set_weights_to_zero_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = finished_run(tmp_path, target="density=0.2x", strategy="purl")
    with pytest.raises(UserError, match=r"set single weights to zero, .* compare it without --baselines"):
        printed(capsys, tmp_path, name, baselines=True)


def test_baselines_of_a_run_of_another_version_are_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = finished_run(tmp_path, facts={DEVICE: {"name": "local", "kind": "local"}})
    with Store.open(tmp_path, name, write=True) as store:
        store.set(CONFIG, {**store.get(CONFIG), "forgotten": 3})
    with pytest.raises(UserError, match=r"settings of another version of this program \(forgotten: "):
        printed(capsys, tmp_path, name, baselines=True)


@pytest.fixture
def stored(ran: Desk, new_desk: Callable[[], Desk]) -> Desk:
    """The finished run once more, and beside it as if with another seed."""
    desk = new_desk()
    (run,) = ran.runs.iterdir()
    shutil.copytree(run, desk.runs / run.name)
    shutil.copytree(run, desk.runs / "20991231-000000-other")
    with Store.open(desk.runs, "20991231", write=True) as store:
        store.set(SEED, 1)
    return desk


def slowed(desk: Desk, name: str) -> None:
    """Put the base model's own file in the place of the chosen network's: every cut is as fast as that."""
    import importlib.util

    from safetensors.torch import load_file

    from pipeline.export.onnx.exporter import export
    from pipeline.pruning.trace import trace
    from pipeline.records import OnnxSupport

    spec = importlib.util.spec_from_file_location("net_of_desk", desk.folder / "net.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.Net(10)
    with Store.open(desk.runs, name, write=True) as store:
        network.load_state_dict(load_file(store.blob(store.get(BASE_WEIGHTS))))
        images = torch.zeros(2, 1, 8, 8)
        file = export(trace(network, images), images, OnnxSupport(13, 7))
        chosen = next(a for a in store.artifacts() if a.chosen)
        store.add_artifact(replace(chosen, files={**chosen.files, "model.onnx": store.put_blob(file)}))


@pytest.mark.slow
def test_baselines_are_as_fast_as_the_runs_network_trained_alike_and_made_once(
    stored: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    slowed(stored, "20991231")
    first = stored.done("compare", "20991231", "--baselines", "--json")
    (baselines,) = first.json["baselines"].values()
    none, magnitude, sparse = baselines
    assert [baseline["name"] for baseline in baselines] == ["none", "magnitude", "l1-in-training"]
    assert none["figures"]["test_accuracy"] > 0.5
    for made in (magnitude, sparse):
        assert made["figures"]["measurement"]["ratio"]["value"] <= 1.01 * made["limit"]["value"]
        assert made["figures"]["parameters"] < none["figures"]["parameters"]
        assert 0 <= made["figures"]["test_accuracy"] <= 1
        assert all(0 < kept <= 32 for kept in made["channels"].values())
    assert len(set(magnitude["channels"].values())) == 1  # the same share of groups of equal width
    assert {group["name"] for group in first.json["groups"]} == {
        "dqn", "baseline none", "baseline magnitude", "baseline l1-in-training",
    }  # fmt: skip
    assert "Train l1-in-training, sparse" in first.err
    assert "Fit the layers of magnitude to its cut" in first.err

    compare(["latest", "20991231"], baselines=True, runs=stored.runs, json=True)
    again = capsys.readouterr()
    assert json.loads(again.out) == first.json
    assert again.err == ""  # nothing was loaded, measured or trained

    both = json.loads(printed(capsys, stored.runs, "20991231", "2026", json=True))
    assert [run["seed"] for run in both["groups"][0]["runs"]] == [0, 1]
