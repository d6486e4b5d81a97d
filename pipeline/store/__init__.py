"""A run's memory: one folder that survives ``kill -9``, such as ``runs/20261121-041500-digits-local/``.

run.sqlite      facts, trials, measurements, artifacts (database.py)
blobs/3f/3f2a…  files by their SHA-256 (blobs.py)
checkpoints/    trainings under way (checkpoints.py)
lock            held while a process writes (lock.py)
"""

from __future__ import annotations

from pipeline.store.runs import RunSummary
from pipeline.store.store import Store

__all__ = ["RunSummary", "Store"]
