"""Place of runs, from what was typed after ``--runs``: a folder, or the URL of a database that hosts share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import TypeAliasType

from pipeline.errors import ConfigError
from pipeline.store.folder_runs import FolderRuns
from pipeline.store.open_run import Place
from pipeline.store.shared.url import SharedUrl, is_url, parse_url

if TYPE_CHECKING:
    from pipeline.store.shared.migration import Migrated
    from pipeline.store.shared.shared_runs import SharedRuns

RunsRoot = TypeAliasType("RunsRoot", Path | SharedUrl)
"""Where runs are."""


def runs_root(where: str | RunsRoot) -> RunsRoot:
    """Return where runs are.

    Raises:
        ConfigError: it is a URL, and none of a database of runs.

    >>> runs_root("runs")
    PosixPath('runs')
    >>> str(runs_root("postgresql://lab:secret@db/runs?blobs=/mnt/blobs"))
    'postgresql://lab:***@db/runs?blobs=/mnt/blobs'
    """
    if isinstance(where, str) and is_url(where):
        return parse_url(where)
    return where if isinstance(where, SharedUrl) else Path(where)


def place_of(root: RunsRoot) -> Place:
    """Return the runs that are there.

    Raises:
        ConfigError: what a database of runs needs is not installed.
    """
    return FolderRuns(root) if isinstance(root, Path) else _shared(root)


def migrated(source: Path, target: SharedUrl) -> Iterator[Migrated]:
    """Copy the runs of a folder into a database; yield each as soon as it is whole.

    Raises:
        ConfigError: what a database of runs needs is not installed.
        StoreError: the folder, the database or the place of its files cannot be used.
    """
    shared = _shared(target)
    from pipeline.store.shared.migration import migrate

    yield from migrate(source, shared)


def _shared(url: SharedUrl) -> SharedRuns:
    try:
        from pipeline.store.shared.shared_runs import SharedRuns  # SQLAlchemy takes half a second to import
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"runs in a database need {error.name}, which is not installed: pip install 'edge-pruning-pipeline[shared]'"
        ) from error
    return SharedRuns(url)
