"""The examples run as they are, one after the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_a_network_of_ones_own_is_pruned_pulled_loaded_back_and_its_run_read(tmp_path: Path) -> None:
    said = run("own_network.py", tmp_path)
    assert "answers of the pruned network: (1, 10)" in said
    listed = run("figures_of_a_run.py", tmp_path / "runs")
    assert "on the Pareto front" in listed
    assert "chosen: r1t" in listed


def test_every_example_stands_in_the_list() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"`{path.name}`" in listed for path in EXAMPLES.glob("*.py"))
