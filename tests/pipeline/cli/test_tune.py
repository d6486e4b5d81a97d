"""`pipeline tune` by the real command line: what is refused, and a tuning that is killed and typed again."""

from __future__ import annotations

import signal
from typing import Any

import pytest
import yaml

from pipeline.config import RunConfig
from tests.command_line import FEW_CUTS, Desk, finished, read_until

# All that is measured is left out of what decides; a size is the same on a busy machine.
QUICK = {
    **FEW_CUTS, "target": "size=0.9x", "strategy": "uniform", "trials": "2",
    "fine_tuning": "{finalists: 1, finalist_epochs: 0.1, epochs: 0.1, min_steps: 2, verify_images: 10}",
}  # fmt: skip
SEARCH = ("tune", "--config", "run.yaml", "--search", "reward.alpha=0.5,2")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "nothing to search: write PATH=LOW:HIGH"),
        (("--search", "reward.alpah=1,2"), "is no setting (did you mean 'reward.alpha'?)"),
        (("--search", "reward.alpha=-1,2"), "--search reward.alpha: should be greater than or equal to 0, found -1"),
        (("--search", "reward.alpha=1:2:6", "--runs-budget", "5"), "6 = 6 points, and --runs-budget allows 5"),
    ],
)
def test_what_cannot_be_searched_is_told_before_anything_runs(
    desk: Desk, arguments: tuple[str, ...], says: str
) -> None:
    done = desk.do("tune", "--config", "run.yaml", *arguments)
    assert done.code == 2
    assert says in done.error
    assert not desk.runs.exists()


@pytest.mark.slow
def test_a_killed_tuning_typed_again_runs_only_what_is_left_and_the_best_alone_reads_the_test_split(
    desk: Desk,
) -> None:
    desk.settings(**QUICK)
    torn = desk.start(*SEARCH)
    assert "a grid of 2 runs" in read_until(torn, "run 1 of 2  reward.alpha=0.5  ")
    torn.send_signal(signal.SIGKILL)
    finished(torn)
    (first, *_) = desk.done("runs", "list", "--json").json

    done = desk.done(*SEARCH, "--json")
    assert "(known)" in done.err
    table = done.json
    assert {run["settings"]["reward.alpha"] for run in table["runs"]} == {0.5, 2.0}
    assert first["id"] in [run["run"] for run in table["runs"]]
    assert table["tuning"] in first["id"]
    accuracies = [run["accuracy"] for run in table["runs"]]
    assert accuracies == sorted(accuracies, reverse=True)

    whole = {run["run"]: shown(desk, run["run"]) for run in table["runs"]}
    for name, run in whole.items():
        (chosen,) = [artifact for artifact in run["artifacts"] if artifact["chosen"]]
        assert run["status"] == "finished"
        assert (chosen["after"]["test_accuracy"] is not None) == (name == table["best"])
        assert chosen["validation_accuracy"] == next(r["accuracy"] for r in table["runs"] if r["run"] == name)
        assert run["tuning"]["of"] == table["tuning"]
        alpha = run["tuning"]["settings"]["reward.alpha"]
        assert (run["config"]["reward"]["alpha"], alpha in (0.5, 2.0)) == (alpha, True)
    best = whole[table["best"]]
    assert table["test_accuracy"] == next(a["after"]["test_accuracy"] for a in best["artifacts"] if a["chosen"])
    tuned = yaml.safe_load((desk.runs / table["best"] / "tuned.yaml").read_text())
    assert RunConfig.model_validate(tuned) == RunConfig.model_validate(best["config"])


def shown(desk: Desk, run: str) -> dict[str, Any]:
    found: dict[str, Any] = desk.done("runs", "show", run, "--json").json
    return found
