"""A run's memory, which survives ``kill -9``: a folder, such as ``runs/20261121-041500-digits-local/``.

run.sqlite      facts, trials, measurements, artifacts (database.py)
blobs/3f/3f2a…  files by their SHA-256 (blobs.py)
checkpoints/    trainings under way (checkpoints.py)
lock            held while a process writes (lock.py)

Or rows of a database that many hosts share, and files in a place that all of them see (shared/).
"""

from __future__ import annotations

from pipeline.store.place import RunsRoot, runs_root
from pipeline.store.runs import RunSummary
from pipeline.store.store import Store

__all__ = ["RunSummary", "RunsRoot", "Store", "runs_root"]
