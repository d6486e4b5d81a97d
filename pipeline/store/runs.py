"""Runs folder: names, look-up by id or prefix, summaries."""

from __future__ import annotations

import errno
import itertools
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import RunNotFoundError, StoreError, nearest
from pipeline.records import REPLAY
from pipeline.regular_file import exists, is_folder, is_there
from pipeline.store.blobs import sync_folder
from pipeline.store.database import NAME, Database
from pipeline.store.error_translation import explained
from pipeline.store.facts import CONFIG, DEVICE, FINISHED_AT, SECONDS, STARTED, STATUS, Fact
from pipeline.store.lock import is_written
from pipeline.store.records import fact_of

RUNNING = "running"
INTERRUPTED = "interrupted"
DAMAGED = "damaged"
FINISHED = "finished"

_STAMP = "%Y%m%d-%H%M%S"
_STAMPED = re.compile(r"\d{8}-\d{6}")
_NEW = ".new-"
_STALE_S = 3600.0

_log = logging.getLogger(__name__)


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
    settings: bool = False
    """Whether its settings are stored, without which it cannot be resumed."""
    problem: str = field(default="", compare=False)
    """Why it is damaged."""


def new_folder(root: Path) -> Path:
    """Make the folder in which a run is begun; it is no run's until it is ``published``."""
    with explained(root):
        root.mkdir(parents=True, exist_ok=True)
        for old in root.glob(f"{_NEW}*"):  # of a process that was killed
            if time.time() - old.stat().st_mtime > _STALE_S and not is_written(old):
                shutil.rmtree(old, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=_NEW, dir=root))
        folder.chmod(0o755)
        return folder


def published(folder: Path, label: str) -> Path:
    """Give a run's folder its name, the time (UTC) and ``label``, in one step; return where it is now."""
    root = folder.parent
    with explained(root):
        for name in new_names(label):
            named = root / name
            if exists(named):
                continue
            try:
                folder.rename(named)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # another run has just got this name
                    raise
                continue
            sync_folder(root)
            return named
    raise AssertionError("names have no end")


def new_names(label: str) -> Iterator[str]:
    """Yield what a run that begins now may be called: the time (UTC) and ``label``, then with a number, without end."""
    name = f"{datetime.now(UTC).strftime(_STAMP)}-{_slug(label)}"
    yield name
    for attempt in itertools.count(2):
        yield f"{name}-{attempt}"


def list_runs(root: Path) -> list[RunSummary]:
    """Return what is known of every run, the newest last; a damaged one is listed as such."""
    return by_time(_summary_or_damaged(folder) for folder in _folders(root))


def by_time(summaries: Iterable[RunSummary]) -> list[RunSummary]:
    """Return runs, the newest last."""
    return sorted(summaries, key=lambda s: (s.started or _started_by_name(s.id), s.id))


def find_folder(root: Path, wanted: str) -> Path:
    """Return the folder of the run that ``wanted`` names: an id, a prefix of one only, or ``latest``.

    Raises:
        RunNotFoundError: there is none, or several; names the nearest.
    """
    names = [folder.name for folder in _folders(root)]
    return root / match(names, wanted, str(root), lambda: latest(list_runs(root), lambda run: _checked(root, run)))


def match(names: list[str], wanted: str, where: str, newest: Callable[[], str]) -> str:
    """Return the run among ``names`` that ``wanted`` names: an id, a prefix of one only, or ``latest``.

    Raises:
        RunNotFoundError: there is none, or several; names the nearest.
    """
    if not names:
        raise RunNotFoundError(f"there are no runs in {where} yet; start one: pipeline run")
    if wanted == "latest":
        return newest()
    matches = [wanted] if wanted in names else [name for name in names if wanted and name.startswith(wanted)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise RunNotFoundError(
            f"{wanted!r} begins the names of {len(matches)} runs: {', '.join(matches[-5:])}; say more"
        )
    raise RunNotFoundError(
        f"there is no run {wanted!r} in {where}{nearest(wanted, names)}; see them all: pipeline runs list"
    )


def latest(found: list[RunSummary], check: Callable[[RunSummary], RunSummary]) -> str:
    """Return the newest run that can be used, and warn of newer ones that cannot: they hide none.

    Args:
        found: the newest last.
        check: returns a run with its problem, where it has one.
    """
    passed_over: list[RunSummary] = []
    for run in reversed(found):
        checked = check(run)
        if not checked.problem:
            for one in passed_over:
                _log.warning("%s; it is passed over: the latest run that can be used is %s", one.problem, run.id)
            return run.id
        passed_over.append(checked)
    usable = [run for run in found if run.status != DAMAGED]
    return (usable or found)[-1].id


def _checked(root: Path, run: RunSummary) -> RunSummary:
    """Return a run's summary with its problem, where it has one."""
    if run.status == DAMAGED:
        return run
    if not run.settings:
        return replace(run, problem=f"{root / run.id} is half made: it ended before its settings were stored")
    try:
        database = Database.open(root / run.id)
        try:
            database.require_sound()
        finally:
            database.close()
    except StoreError as error:
        return replace(run, problem=str(error))
    return run


def status_of(said: str | None, is_written: Callable[[], bool]) -> str:
    """Return how the run stands: one that says it is running, but that nobody writes, was interrupted."""
    status = said or RUNNING
    return INTERRUPTED if status == RUNNING and not is_written() else status


def _folders(root: Path) -> list[Path]:
    if not exists(root):
        return []
    with explained(root):
        folders = [f for f in root.iterdir() if is_folder(f) and not f.name.startswith(".")]
        return sorted(f for f in folders if _STAMPED.match(f.name) or is_there(f / NAME))


def _summary_or_damaged(folder: Path) -> RunSummary:
    try:
        database = Database.open(folder)
        try:
            trials, best, last = database.rows(
                "SELECT count(*), max(CASE WHEN feasible THEN reward END), max(at) FROM trials",
            )[0]
            return summary_of(
                folder.name, lambda fact: fact_of(database, fact), lambda: is_written(folder),
                trials=trials, best=best, last=last,
            )  # fmt: skip
        finally:
            database.close()
    except StoreError as error:
        return RunSummary(id=folder.name, status=DAMAGED, problem=str(error))


def summary_of(
    name: str,
    fact: Callable[[Fact[Any]], Any],
    is_written: Callable[[], bool],
    *,
    trials: int,
    best: float | None,
    last: str | None,
) -> RunSummary:
    """Return what is known of a run.

    Args:
        name: the run's id.
        fact: returns a fact, or raises StoreError.
        is_written: says whether a process has the writer's lock.
        trials: how many are stored.
        best: reward of the feasible ones.
        last: when the last one was stored.
    """
    stored = fact(CONFIG)
    config: Mapping[str, Any] = {} if stored is None else stored
    status = status_of(fact(STATUS), is_written)
    started, finished, worked = fact(STARTED), fact(FINISHED_AT), fact(SECONDS)
    end = datetime.now(UTC).isoformat() if status == RUNNING else finished or last
    return RunSummary(
        id=name,
        status=status,
        device=_device(fact(DEVICE) or config.get("device")),
        model=_in_words(config.get("model")),
        data=_in_words(config.get("data")) + _under(config.get("conditions")),
        target=_in_words(config.get("target") or config.get("targets")),
        trials=trials,
        best_reward=best,
        started=started,
        finished=finished,
        seconds=worked if worked is not None and status != RUNNING else _seconds_between(started, end),
        settings=bool(config),
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


def _under(conditions: Any) -> str:
    """Return the conditions of a run's data behind their name.

    >>> _under(["clean", "fog:3"]), _under([])
    (' (clean, fog:3)', '')
    """
    return f" ({_in_words(conditions)})" if conditions else ""


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
