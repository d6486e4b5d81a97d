"""The folder of runs: making a name, finding a run by it, one line about each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import RunNotFoundError, StoreError, nearest
from pipeline.recording import REPLAY
from pipeline.regular_file import exists, is_folder, is_there
from pipeline.store.database import NAME, Database
from pipeline.store.faults import explained
from pipeline.store.lock import is_written

RUNNING = "running"
INTERRUPTED = "interrupted"
DAMAGED = "damaged"
FINISHED = "finished"

_STAMP = "%Y%m%d-%H%M%S"
_STAMPED = re.compile(r"\d{8}-\d{6}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One line of ``runs list``."""

    id: str
    status: str
    """running, interrupted, damaged, or how the run ended."""
    device: str = ""
    model: str = ""
    data: str = ""
    target: str = ""
    trials: int = 0
    best_reward: float | None = None
    """Of the feasible trials."""
    started: str | None = None
    """ISO 8601, UTC."""
    finished: str | None = None
    seconds: float | None = None
    """Of work, pauses taken off, where the run has said so (fact ``seconds``); else from the start to the end, to the
    last trial where it was interrupted, to now where it is running."""


def claim_folder(root: Path, label: str) -> Path:
    """Make the folder of a new run, named by the time (UTC) and ``label``."""
    name = f"{datetime.now(UTC).strftime(_STAMP)}-{_slug(label)}"
    with explained(root):
        root.mkdir(parents=True, exist_ok=True)
        attempt = 1
        while True:
            folder = root / (name if attempt == 1 else f"{name}-{attempt}")
            try:
                folder.mkdir()
            except FileExistsError:
                attempt += 1
            else:
                return folder


def list_runs(root: Path) -> list[RunSummary]:
    """Return what is known of every run, the newest last; a damaged one is listed as such."""
    summaries = [_summary_or_damaged(folder) for folder in _folders(root)]
    return sorted(summaries, key=lambda s: (s.started or _started_by_name(s.id), s.id))


def find_folder(root: Path, wanted: str) -> Path:
    """Return the folder of the run that ``wanted`` names: an id, a prefix of one only, or ``latest``.

    Raises:
        RunNotFoundError: there is none, or several; names the nearest.
    """
    names = [folder.name for folder in _folders(root)]
    if not names:
        raise RunNotFoundError(f"there are no runs in {root} yet; start one: pipeline run")
    if wanted == "latest":
        return root / list_runs(root)[-1].id
    matches = [wanted] if wanted in names else [name for name in names if wanted and name.startswith(wanted)]
    if len(matches) == 1:
        return root / matches[0]
    if matches:
        raise RunNotFoundError(
            f"{wanted!r} begins the names of {len(matches)} runs: {', '.join(matches[-5:])}; say more"
        )
    raise RunNotFoundError(
        f"there is no run {wanted!r} in {root}{nearest(wanted, names)}; see them all: pipeline runs list"
    )


def read_status(database: Database, folder: Path) -> str:
    """Return how the run stands: one that says it is running, but that nobody writes, was interrupted."""
    status = str(database.fact("status") or RUNNING)
    return INTERRUPTED if status == RUNNING and not is_written(folder) else status


def _folders(root: Path) -> list[Path]:
    if not exists(root):
        return []
    with explained(root):
        folders = [f for f in root.iterdir() if is_folder(f) and (_STAMPED.match(f.name) or is_there(f / NAME))]
    return sorted(folders)


def _summary_or_damaged(folder: Path) -> RunSummary:
    try:
        database = Database.open(folder)
        try:
            return _summary(database, folder)
        finally:
            database.close()
    except StoreError:
        return RunSummary(id=folder.name, status=DAMAGED)


def _summary(database: Database, folder: Path) -> RunSummary:
    config = database.fact("config")
    config = config if isinstance(config, Mapping) else {}
    trials, best, last = database.rows(
        "SELECT count(*), max(CASE WHEN feasible THEN reward END), max(at) FROM trials",
    )[0]
    status = read_status(database, folder)
    started, finished, worked = (database.fact(key) for key in ("started", "finished", "seconds"))
    end = datetime.now(UTC).isoformat() if status == RUNNING else finished or last
    return RunSummary(
        id=folder.name,
        status=status,
        device=_device(database.fact("device") or config.get("device")),
        model=_in_words(config.get("model")),
        data=_in_words(config.get("data")),
        target=_in_words(config.get("target") or config.get("targets")),
        trials=trials,
        best_reward=best,
        started=started,
        finished=finished,
        seconds=worked if isinstance(worked, float) and status != RUNNING else _seconds_between(started, end),
    )


def _device(value: Any) -> str:
    """Return a device's name, and that no board was there if so.

    >>> _device({"name": "pi", "kind": "replay"})
    'pi (replayed)'
    """
    replayed = isinstance(value, Mapping) and value.get("kind") == REPLAY
    return _in_words(value) + (" (replayed)" if replayed else "")


def _in_words(value: Any) -> str:
    """Return a config's value as a cell of a table; of an object, its name.

    >>> _in_words({"latency": "0.5x", "size": "1MB"}), _in_words({"name": "pi", "kind": "linux"}), _in_words(None)
    ('latency=0.5x, size=1MB', 'pi', '')
    """
    if isinstance(value, Mapping):
        if "name" in value:
            return str(value["name"])
        return ", ".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_in_words, value))
    return "" if value is None else str(value)


def _seconds_between(start: Any, end: Any) -> float | None:
    try:
        return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    except (TypeError, ValueError):
        return None


def _started_by_name(name: str) -> str:
    """Return when a run of that name began, as text that sorts among ISO times.

    >>> _started_by_name("20261121-041500-digits-local")
    '2026-11-21T04:15:00+00:00'
    """
    try:
        return datetime.strptime(name[:15], _STAMP).replace(tzinfo=UTC).isoformat()
    except ValueError:
        return ""


def _slug(label: str) -> str:
    """Return ``label`` as part of a folder's name.

    >>> _slug("CIFAR10: ResNet-20 / Küche"), _slug("../..")
    ('cifar10-resnet-20-k-che', 'run')
    """
    words = re.findall(r"[a-z0-9]+(?:[._][a-z0-9]+)*", label.lower())
    return "-".join(words)[:60] or "run"
