"""How long do runs take to be listed, and how many trials a second are stored: in folders, SQLite and PostgreSQL?

PostgreSQL is Debian's, on a Unix socket of this machine, as it comes: each commit is on the disk. A network adds its
round trips, of which a write has five.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.store import RunsRoot, Store, runs_root
from pipeline.store.facts import CONFIG, DEVICE, Fact
from tests.examples import measurement, trial
from tests.postgresql_server import PostgresqlServer, programs

_TERMS = {f"reward of layer {number}": 0.1 for number in range(20)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--trials", type=int, default=500, help="of each run")
    parser.add_argument("--lists", type=int, default=5)
    asked = parser.parse_args()
    print(f"{asked.runs} runs of {asked.trials} trials")
    print(f"{'':12} {'list, s':>8} {'open and read one, s':>21} {'writes a second':>16}", flush=True)
    for kind in ("folders", "SQLite", "PostgreSQL"):
        if kind == "PostgreSQL" and programs() is None:
            print("PostgreSQL's server is not installed: apt-get install postgresql")
            continue
        with tempfile.TemporaryDirectory() as folder, _place(kind, Path(folder)) as root:
            a_second = _fill(root, asked.runs, asked.trials)
            list_s = min(_timed(lambda: Store.list(root)) for _ in range(asked.lists))
            read_s = min(_timed(lambda: _read(root)) for _ in range(asked.lists))
            print(f"{kind:12} {list_s:8.3f} {read_s:21.3f} {a_second:16.0f}", flush=True)


@contextmanager
def _place(kind: str, folder: Path) -> Iterator[RunsRoot]:
    if kind == "PostgreSQL":
        server = PostgresqlServer(durable=True).start()
        try:
            yield runs_root(server.url(server.new_database(), folder / "blobs"))
        finally:
            server.remove()
    else:
        yield runs_root(f"sqlite:///{folder}/runs.sqlite?blobs={folder}/blobs" if kind == "SQLite" else folder)


def _fill(root: RunsRoot, runs: int, trials: int) -> float:
    """Store runs; return the writes a second, of which each trial has two: its measurement, and itself."""
    start = time.perf_counter()
    for number in range(runs):
        facts: dict[Fact[Any], object] = {
            CONFIG: {"data": "digits", "target": ["latency=0.5x"]},
            DEVICE: {"name": f"pi4-{number}"},
        }
        with Store.create(root, label="benchmark", facts=facts) as store:
            for index in range(trials):
                store.remember(str(index), measurement())
                store.append(trial(index, measurement=measurement(), terms=_TERMS))
            store.finish()
    return 2 * runs * trials / (time.perf_counter() - start)


def _read(root: RunsRoot) -> None:
    with Store.open(root, "latest") as store:
        store.trials()


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
