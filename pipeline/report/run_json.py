"""A run as the plain values that ``runs show --json`` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pipeline import serialization
from pipeline.measurement.drift import Drift, drift_of
from pipeline.store.device_usage import Usage
from pipeline.store.store import Store

_FACTS = (
    "config", "device", "facts", "seed", "versions", "git", "calibration", "spreads", "base", "chosen", "seconds",
    "started", "finished", "recording", "tuning",
)  # fmt: skip


def as_json(store: Store) -> dict[str, Any]:
    """Return all that a script may want to know of a run; absent facts are null."""
    best = store.best()
    return {
        "id": store.id,
        "status": store.status,
        **{key: store.get(key) for key in _FACTS},
        "usage": {str(number): _usage(usage) for number, usage in usages(store).items()},
        "drift": _drift(store),
        "trials": [serialization.dump(trial) for trial in store.trials()],
        "pareto": [trial.index for trial in store.pareto()],
        "best": None if best is None else best.index,
        "artifacts": [serialization.dump(artifact) for artifact in store.artifacts()],
    }


def usages(store: Store) -> dict[int, Usage]:
    """Return how the device's time was spent in each round's search, as far as the run has come."""
    rounds = range(1, int((store.get("config") or {}).get("rounds") or 1) + 1)
    found = {number: store.get(f"usage {number}") for number in rounds}
    return {number: serialization.load(Usage, usage) for number, usage in found.items() if usage is not None}


def _usage(usage: Usage) -> dict[str, Any]:
    return {**asdict(usage), "idle_s": usage.idle_s}


def _drift(store: Store) -> dict[str, Any] | None:
    drift: Drift | None = drift_of(store.trials())
    return None if drift is None else {**asdict(drift), "share": drift.share}
