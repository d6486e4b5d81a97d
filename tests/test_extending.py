"""Each kind of extension is one file: the documents' examples, as they stand there, in a folder of the user's own."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from pipeline import plugins
from pipeline.data import load_data
from pipeline.devices.inventory.load import load_inventory
from pipeline.errors import ConfigError
from pipeline.run.inputs import CRITERIA
from pipeline.search.strategy_plugin import STRATEGIES
from tests.command_line import Desk

PAGES = Path(__file__).parents[1] / "docs/extending"


def example(page: str, language: str, number: int = 0) -> str:
    text = (PAGES / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)[number]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.slow
def test_a_strategy_and_a_criterion_of_ones_own_search_and_rank(desk: Desk) -> None:
    desk.write("hill_climbing.py", example("strategy.md", "python"))
    desk.write("weight_spread.py", example("criterion.md", "python"))
    quick = {"weights": "null", "trials": "3", "base_training": "{epochs: 0.5}", "target": "size=0.95x"}
    (own,) = example("strategy.md", "yaml").splitlines()[2:]
    desk.settings(**quick, strategy="hill_climbing.py", strategy_options=own.partition(": ")[2])
    ran = desk.done("run", "--config", "run.yaml", "--criterion", "weight_spread.py", "--json").json
    assert (ran["status"], len(ran["trials"])) == ("finished", 3)
    assert {trial["plan"]["criterion"] for trial in ran["trials"]} == {"weight_spread.py"}
    assert ran["config"]["strategy_options"] == {"changes": 2}
    assert any(sum(level > 0 for level in trial["plan"]["levels"]) == 2 for trial in ran["trials"])


def test_an_option_that_a_strategy_of_ones_own_has_not_ends_a_run_before_it_begins(desk: Desk) -> None:
    desk.write("hill_climbing.py", example("strategy.md", "python"))
    desk.settings(weights="null", strategy="hill_climbing.py", strategy_options="{chnages: 2}")
    refused = desk.do("run", "--config", "run.yaml")
    assert refused.code == 2
    assert "strategy_options.chnages: no such setting (did you mean 'changes'?)" in refused.error
    assert not desk.runs.exists()


def test_a_data_source_of_ones_own_is_read_and_split(tmp_path: Path) -> None:
    (tmp_path / "stripes.py").write_text(example("data-source.md", "python"))
    data = load_data(f"{tmp_path / 'stripes.py'}:600", seed=0)
    assert (data.name, data.classes, data.shape) == ("stripes", ("vertical", "horizontal"), (1, 8, 8))
    assert sum(len(part) for part in (data.train, data.search, data.val, data.test)) == 600


def test_a_kind_of_board_of_ones_own_gives_its_settings(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/orange-pi-5.yaml").write_text(example("board.md", "yaml"))
    (tmp_path / "inventory.yaml").write_text(example("board.md", "yaml", 1))
    device = load_inventory(tmp_path / "inventory.yaml").device("orange")
    assert (device.measure.threads, device.measure.affinity) == (4, (4, 5, 6, 7))
    assert device.fixes["runtime"] == "pip3 install --user onnxruntime"


def test_the_old_name_of_a_profile_s_fixes_still_counts(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/orange-pi-5.yaml").write_text(example("board.md", "yaml").replace("fixes:", "mends:"))
    (tmp_path / "inventory.yaml").write_text(example("board.md", "yaml", 1))
    assert "runtime" in load_inventory(tmp_path / "inventory.yaml").device("orange").fixes


def test_an_installed_package_brings_plugins_by_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_strategy.py").write_text(example("strategy.md", "python"))
    about = tmp_path / "mine-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[edge_pruning.strategies]\nhill-climbing = my_strategy\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    plugins._installed.cache_clear()
    try:
        assert "hill_climbing" in plugins.names(STRATEGIES)
        assert plugins.load(STRATEGIES, "hill-climbing").create.__name__ == "create"
    finally:
        plugins._installed.cache_clear()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file"),
        ("DIGITS = 7\n", "has no function scores"),
        ("import nothing_of_that_name\n", "cannot be imported: ModuleNotFoundError"),
        ("def scores(:\n", "cannot be imported: SyntaxError"),
    ],
)
def test_a_file_that_is_no_plugin_says_why(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError, match=said):
        plugins.load(CRITERIA, str(tmp_path / "mine.py"))
