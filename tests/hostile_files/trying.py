"""Hostile files read one after another: what each raised that is no expected failure, how long it took, its memory."""

from __future__ import annotations

import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from pipeline.errors import PipelineError
from tests.hostile_files.kinds import Kind

SLOW_S = 5.0
LARGE_MB = 500.0


@dataclass(frozen=True)
class Fault:
    """A hostile file that was not refused as it should be."""

    what: str
    """traceback, slow or large."""
    detail: str
    content: bytes


@dataclass
class Tried:
    """What came of one kind of file."""

    files: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    largest_mb: float = 0.0

    def __post_init__(self) -> None:
        self.faults: list[Fault] = []

    def count(self, what: str) -> int:
        return sum(fault.what == what for fault in self.faults)


def tried(kind: Kind, examples: int, *, number: int = 0, on_file: Callable[[bytes], None] = lambda _: None) -> Tried:
    """Read so many hostile files of a kind; the same ``number``, the same files.

    Args:
        on_file: hears of each before it is read, so that one that ends the process can be told.
    """
    found = Tried()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        @seed(number)
        @settings(
            max_examples=examples, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(kind.strategy())
        def read(content: bytes) -> None:
            on_file(content)
            _try(kind, content, folder, found)

        read()
    return found


def _try(kind: Kind, content: bytes, folder: Path, found: Tried) -> None:
    before = _reset_peak_mb()
    start = time.process_time()
    error: Exception | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kind.use(content, folder)
        except PipelineError:
            found.refused += 1
        except Exception as raised:
            error = raised
    seconds, used_mb = time.process_time() - start, _peak_mb() - before
    found.files += 1
    found.slowest_s, found.largest_mb = max(found.slowest_s, seconds), max(found.largest_mb, used_mb)
    if error is not None:
        last = traceback.extract_tb(error.__traceback__)
        at = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in last[-1:-4:-1])
        found.faults.append(Fault("traceback", f"{type(error).__name__}: {str(error)[:120]} ({at})", content))
    if seconds > SLOW_S:
        found.faults.append(Fault("slow", f"{seconds:.1f} s", content))
    if used_mb > LARGE_MB:
        found.faults.append(Fault("large", f"{used_mb:.0f} MB", content))


def _reset_peak_mb() -> float:
    """Let the kernel count this process's peak anew; return what it uses now, or its peak, where that is forbidden."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _peak_mb()
    return _status_mb("VmRSS")


def _peak_mb() -> float:
    return _status_mb("VmHWM")


def _status_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))
