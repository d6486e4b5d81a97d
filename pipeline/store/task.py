"""What a run's score is called."""

from __future__ import annotations

from pipeline.store.facts import TASK
from pipeline.store.store import Store

ACCURACY = "accuracy"


def metric_name(store: Store) -> str:
    """Return what the task of a run calls its score, which is stored as an accuracy."""
    task = store.get(TASK)
    return ACCURACY if task is None else task["metric"]


def puts_into_classes(store: Store) -> bool:
    """Return whether a run's score is the share of examples that are put into the right class."""
    task = store.get(TASK)
    return task is None or task["puts_into_classes"]
