"""Two boards searched on at once over bad links: the runs go on, and say so when they cannot.

Both runs start together and meet their faults at the same time; each test then looks at one of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import Desk, Done, read_until
from tests.lab import links
from tests.lab.conftest import SETTINGS, skip_without
from tests.lab.links import LinkedBoard

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

SLOW_MBIT_S = 20.0
CUT_S = 5.0
PATIENCE_S = 500.0
"""No limit but a hang's."""
HEAVY = """

class Heavy(Net):
    '''Five megabytes, so that a whole file is two seconds on its way.'''

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.wide = nn.Linear(10, 55_000)
        self.narrow = nn.Linear(55_000, num_classes)

    def forward(self, x):
        scores = super().forward(x)
        return scores + self.narrow(self.wide(scores))
"""
MEASURE = {
    "warmup_s": 0.02,
    "min_s": 0.1,
    "max_s": 0.5,
    "block_s": 0.02,
    "ci_rel": 0.5,
    "processes": 1,
    "max_background_cores": 64,
}
SSH = {"connect_timeout_s": 3.0, "retries": 2}


class Search:
    """A run on one of the boards, and the fault that it meets."""

    def __init__(self, folder: Path, name: str, number: int, network: str = "Net") -> None:
        folder.mkdir()
        self.link = LinkedBoard(name, number, folder)
        self.desk = Desk(folder / "desk")
        net = self.desk.folder / "net.py"
        net.write_text(net.read_text() + HEAVY)
        kept = "[stem, down, wide]" if network == "Heavy" else "[stem, down]"
        pruning = f"{{protect: {kept}}}"
        self.desk.settings(**{**SETTINGS, "model": f"net.py:{network}", "target": "[]", "pruning": pruning})
        self.desk.write("inventory.yaml", self.link.board.inventory(measure=MEASURE, ssh=SSH, channel_step=16))

    @property
    def parts(self) -> list[Path]:
        """What is on its way to the board just now."""
        return [part for part in Path(self.link.board.agent_dir).rglob(".part-*") if part.stat().st_size]

    @property
    def shown(self) -> dict[str, Any]:
        run: dict[str, Any] = self.desk.done("runs", "show", "latest", "--json").json
        return run

    def see_through(self, fault: Callable[[Search], None], until: str) -> Done:
        """Run, with a fault as soon as progress shows these words."""
        run = self.desk.start_cold("run", "--device", self.link.board.name, "--config", "run.yaml")
        seen = read_until(run, until)
        fault(self)
        out, err = run.communicate(timeout=PATIENCE_S)
        return Done(run.returncode, out, seen + err)


def cut_in_mid_upload(search: Search) -> None:
    until = time.monotonic() + PATIENCE_S
    while not any(part.stat().st_size > 1e6 for part in search.parts):
        assert time.monotonic() < until, "no large file was ever on its way"
        time.sleep(0.02)
    search.link.cut()
    time.sleep(CUT_S)
    search.link.fix()


def power_off(search: Search) -> None:
    search.link.power_off()


@pytest.fixture(scope="module")
def searches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Search, Future[Done]]]]:
    """The two runs, under way."""
    skip_without(links.missing())
    folder = tmp_path_factory.mktemp("links")
    started: dict[str, tuple[Search, Future[Done]]] = {}
    with ThreadPoolExecutor(2) as pool:
        try:
            for number, (name, network, fault, words) in enumerate(
                (
                    ("cut", "Heavy", cut_in_mid_upload, "trial 0:"),
                    ("dead", "Net", power_off, "trial 0:"),
                )
            ):
                search = Search(folder / name, name, number, network)
                if name != "dead":
                    search.link.slow_down(SLOW_MBIT_S)
                started[name] = (search, pool.submit(search.see_through, fault, words))
            yield started
        finally:
            for search, _ in started.values():
                search.link.close()


def test_a_run_over_a_slow_link_that_is_cut_loses_no_trial(searches: dict[str, tuple[Search, Future[Done]]]) -> None:
    search, ended = searches["cut"]
    done = ended.result(PATIENCE_S)
    assert done.code == 0, done.err
    run = search.shown
    assert run["status"] == "finished"
    assert [trial["failure"] for trial in run["trials"]] == [None] * 3
    (best,) = [artifact for artifact in run["artifacts"] if artifact["chosen"]]
    assert best["device_accuracy"] == best["host_accuracy"]
    assert search.link.throttled > 0
    search.link.board.assert_tidy()


def test_a_board_that_dies_ends_the_run_which_goes_on_when_the_board_is_back(
    searches: dict[str, tuple[Search, Future[Done]]],
) -> None:
    search, ended = searches["dead"]
    done = ended.result(PATIENCE_S)
    assert done.code == 1
    assert "dead" in done.error
    assert "is the board on, and on this network?" in done.error or "No route to host" in done.error
    assert "to resume: pipeline run --resume" in done.err
    before = search.shown
    assert before["status"] == "interrupted"
    assert len(before["trials"]) >= 1

    search.link.power_on()
    resumed = search.desk.done("run", "--resume", "latest")
    after = search.shown
    assert after["status"] == "finished", resumed.err
    assert after["trials"][: len(before["trials"])] == before["trials"]
    measured = [trial["key"] for trial in after["trials"] if not trial["cached"]]
    assert len(measured) == len(set(measured))  # nothing twice
    assert [trial["failure"] for trial in after["trials"]] == [None] * 3
    search.link.board.assert_tidy()
