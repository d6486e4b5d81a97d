"""Sample file: the one real test image that every run keeps, found again without torch."""

from __future__ import annotations

from pathlib import Path

STEM = "sample"


def sample_of(folder: Path) -> Path | None:
    """Return a run's sample; None where it has none."""
    return next((path for path in sorted(folder.glob(f"{STEM}.*"))), None)
