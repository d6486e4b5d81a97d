"""A run as the plain values that ``runs show --json`` prints."""

from __future__ import annotations

from typing import Any

from pipeline import codec
from pipeline.store.store import Store

_FACTS = ("config", "device", "facts", "seed", "versions", "git", "base", "chosen", "seconds", "started", "finished")


def as_json(store: Store) -> dict[str, Any]:
    """Return all that a script may want to know of a run; absent facts are null."""
    best = store.best()
    return {
        "id": store.id,
        "status": store.status,
        **{key: store.get(key) for key in _FACTS},
        "trials": [codec.dump(trial) for trial in store.trials()],
        "pareto": [trial.index for trial in store.pareto()],
        "best": None if best is None else best.index,
        "artifacts": [codec.dump(artifact) for artifact in store.artifacts()],
    }
