"""The examples run as they are, one after the other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import forked
from tests.command_line import PATIENCE_S

EXAMPLES = Path(__file__).parents[1] / "examples"


BRIEF = """
defaults:
  measure: {warmup_s: 0.02, min_s: 0.05, max_s: 0.4, block_s: 0.01, ci_rel: 0.2, processes: 1, max_background_cores: 64}
  channel_step: 16
devices: {local: {kind: local}}
"""


def run(name: str, *arguments: object, folder: Path) -> str:
    code, out, err = forked.run_script(EXAMPLES / name, [*map(str, arguments)], folder, dict(os.environ), PATIENCE_S)
    assert code == 0, err
    return out


@pytest.mark.slow
def test_a_network_of_ones_own_is_pruned_pulled_loaded_back_its_run_read_and_planned_anew(tmp_path: Path) -> None:
    (tmp_path / "inventory.yaml").write_text(BRIEF)
    said = run("own_network.py", "example", folder=tmp_path)
    assert "answers of the pruned network: (1, 10)" in said
    listed = run("figures_of_a_run.py", "example/runs", folder=tmp_path)
    assert "on the Pareto front" in listed
    assert "chosen: r1t" in listed
    planned = run("own_agent.py", "example/runs", "latest", 300, folder=tmp_path)
    assert [line.partition(":")[0] for line in planned.splitlines()] == ["0", "3", "predicted reward"]


def test_every_example_stands_in_the_list() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"`{path.name}`" in listed for path in EXAMPLES.glob("*.py"))
