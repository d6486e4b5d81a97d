"""Simulated boards: does each printed interval hold the truth, and what is rejected that meets the target?

    python benchmarks/simulated_boards.py [--repeats 60] [--seed 0] [--boards quiet bursts ...] [--json]

Boards with known latencies and scripted disturbances (``_common/virtual_board.py``) are measured as a run measures a
board: by the agent's own method in virtual time, by the pipeline's own statistics, bench and choice of finalists. One
repeat is one run (``_common/virtual_run.py``): the base model, a search with the target 0.5x, second looks and whole
files, and the choice of one finalist, of which the slower ones are the more accurate, as networks are.

Tables, a row for each board: how many of the 95 % intervals hold the truth, ± the standard error of that share; their
mean half-width, and by how much the figures are off on average, ± the standard error of that; how many networks were
rejected early, by their true distance from the limit; and what is asked costs in seconds of the board. The base model
takes 5 ms undisturbed, unless a board's name says another time. Coverage is of

search ratio     candidates far inside the limit, latency over the base model's
rejected ratio   candidates above the limit that were stopped early
again, whole     the ratio in a second look, and that of a whole file
base ms          the base model's median latency
whole in ms      a whole file's latency, corrected for drift: the ratio times the base model's
chosen           both figures of the network that the run ends with, as printed
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from _common.findings import Coverage, Findings, share
from _common.virtual_board import Board, Conditions, model_file
from _common.virtual_run import ABOVE, LIMIT, SEARCHED, Run
from rich.console import Console
from rich.progress import track
from rich.table import Table

from pipeline.devices.agent_client import open_agent
from pipeline.devices.board_pool import BoardPool
from pipeline.evaluation.device_bench import Bench
from pipeline.store import Store

BOARDS: Mapping[str, Conditions] = {
    "quiet": Conditions(pair_sd=0.01),
    "noisy": Conditions(pair_sd=0.03),
    "correlated 0.2": Conditions(phi=0.2),
    "correlated 0.4": Conditions(phi=0.4),
    "correlated 0.6": Conditions(phi=0.6),
    "between 0.4 %": Conditions(between=0.004),
    "between 0.8 %": Conditions(between=0.008),
    "between 1.6 %": Conditions(between=0.016),
    "drifting 5 %": Conditions(between=0.004, drift=0.05),
    "bursts": Conditions(between=0.004, bursts_per_s=0.5),
    "all, 0.4 ms": Conditions(base_ms=0.4, between=0.008, phi=0.3, drift=0.05, bursts_per_s=0.5),
    "all, 5 ms": Conditions(between=0.008, phi=0.3, drift=0.05, bursts_per_s=0.5),
    "all, 60 ms": Conditions(base_ms=60.0, between=0.008, phi=0.3, drift=0.05, bursts_per_s=0.5),
}  # fmt: skip
FEWER = {"all, 0.4 ms": 3}
"""Of a fast model ten times as many inferences are simulated: there is one run where other boards have so many."""
INTERVALS = (
    "search ratio", "rejected ratio", "again", "whole", "base ms", "whole in ms", "chosen ratio", "chosen ms"
)  # fmt: skip
ASKED = {"base": "base", "plain": "search", "again": "again", "whole": "whole", "choosing": "choosing"}
"""What is asked of a board → what the table calls it."""


def simulate(conditions: Conditions, runs: Iterable[int], seed: int, place: int = 0) -> Findings:
    """Return what runs of these numbers find, each on a board of its own in these conditions.

    No two places share a random number: where boards do, the standard error of all together is too small.
    """
    found = Findings()
    for number in runs:
        with tempfile.TemporaryDirectory(dir=_memory()) as folder, Store.create(Path(folder), label="board") as store:
            board = Board(conditions, np.random.default_rng([seed, place, number]))
            with open_agent(board.device(), opening=board.opening) as agent:
                bench = Bench(
                    BoardPool.of(agent), store, model_file(conditions.base_ms, "base"), limits={"latency": LIMIT}
                )
                Run(conditions, found, board, bench).go()
    return found


def _memory() -> str | None:
    """Return a folder in memory, where there is one: a run's store waits for the disk at every commit."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def tables(found: Mapping[str, Findings]) -> Iterator[Table]:
    """Yield the tables; where there are several boards, their last row is of all together."""
    together = Findings()
    for one in found.values():
        together.add(one)
    rows = {**found, "all boards": together} if len(found) > 1 else found
    yield _intervals("holds the truth", rows, _holds)
    yield _intervals("± half-width, bias, %", rows, _width_and_bias)
    yield _rejections(rows)
    yield _seconds(found)


def _intervals(title: str, rows: Mapping[str, Findings], cell: Callable[[Coverage], str]) -> Table:
    table = Table(title, *INTERVALS, box=None)
    for name, one in rows.items():
        seen = [one.coverage(figure) for figure in INTERVALS]
        table.add_row(name, *(cell(c) if c else "–" for c in seen))
    return table


def _holds(seen: Coverage) -> str:
    return f"{100 * seen.holds:.1f} ± {100 * seen.holds_error:.1f} %"


def _width_and_bias(seen: Coverage) -> str:
    return f"±{100 * seen.half_width:.2f} {100 * seen.bias:+.2f}±{100 * seen.bias_error:.2f}"


def _rejections(rows: Mapping[str, Findings]) -> Table:
    kinds = [kind for kind in SEARCHED if kind != "plain"]
    table = Table("rejected early", *kinds, "no network chosen", box=None)
    for name, one in rows.items():
        none = f"{one.none_chosen} of {len(one.board_s['base'])}"
        table.add_row(name, *(_holds_share(one.rejected[kind]) for kind in kinds), none)
    return table


def _holds_share(seen: Sequence[bool]) -> str:
    value, error = share(seen)
    return f"{100 * value:.1f} ± {100 * error:.1f} %"


def _seconds(found: Mapping[str, Findings]) -> Table:
    saved = [f"saved, {kind}" for kind in ABOVE]
    table = Table("seconds of the board (processes)", *ASKED.values(), *saved, box=None)
    for name, one in found.items():
        cost = [f"{np.mean(one.board_s[asked]):.1f} ({np.mean(one.processes[asked]):.1f})" for asked in ASKED]
        table.add_row(name, *cost, *(f"{one.saved_s(kind):.2f}" for kind in ABOVE))
    return table


def plain(found: Findings) -> dict[str, Any]:
    """Return the figures as JSON has them; shares as fractions."""
    covered = {name: found.coverage(name) for name in INTERVALS}
    return {
        "runs": len(found.board_s["base"]),
        "intervals": {name: asdict(seen) for name, seen in covered.items() if seen},
        "rejected": {kind: share(found.rejected[kind]) for kind in SEARCHED},
        "none_chosen": found.none_chosen,
        "board_s": {asked: float(np.mean(seconds)) for asked, seconds in found.board_s.items()},
        "processes": {asked: float(np.mean(count)) for asked, count in found.processes.items()},
        "saved_s": {kind: found.saved_s(kind) for kind in ABOVE},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=60, help="runs on each board")
    parser.add_argument("--seed", type=int, default=0)
    names = ", ".join(f'"{name}"' for name in BOARDS).replace("%", "%%")
    parser.add_argument("--boards", nargs="+", choices=BOARDS, default=list(BOARDS), metavar="BOARD", help=names)
    parser.add_argument("--json", action="store_true", help="print figures instead of tables")
    args = parser.parse_args()
    found = {
        name: simulate(BOARDS[name], range(0, args.repeats, FEWER.get(name, 1)), args.seed, list(BOARDS).index(name))
        for name in track(args.boards, "simulating", console=Console(stderr=True), transient=True)
    }
    if args.json:
        print(json.dumps({name: plain(one) for name, one in found.items()}, indent=1))
        return
    for table in tables(found):
        Console(width=185).print(table, "")
    Console().print(
        f"{args.repeats} runs on each board, a third of them on that of 0.4 ms; seed {args.seed}", style="dim"
    )


if __name__ == "__main__":
    main()
