"""JSON of a run, as `runs show --json` prints it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pipeline import serialization
from pipeline.measurement.drift import Drift, drift_of
from pipeline.report.contents import usages
from pipeline.store import Store
from pipeline.store.conditions import chosen_artifacts, conditions_of
from pipeline.store.device_usage import Usage
from pipeline.store.facts import (
    ADAPTATION,
    BASE,
    CALIBRATION,
    CHOSEN,
    CONFIG,
    DECISIONS,
    DEVICE,
    DEVICE_FACTS,
    FEDERATED,
    FINISHED_AT,
    FLEET,
    GIT,
    RECORDING,
    SECONDS,
    SEED,
    SPREADS,
    STARTED,
    TASK,
    TUNING,
    VERSIONS,
    Fact,
)  # fmt: skip

_SHOWN: tuple[Fact[Any], ...] = (
    CONFIG, DEVICE, DEVICE_FACTS, SEED, VERSIONS, GIT, CALIBRATION, SPREADS, FLEET, BASE, *DECISIONS, CHOSEN, SECONDS,
    STARTED, FINISHED_AT, RECORDING, TUNING, TASK, ADAPTATION,
)  # fmt: skip


def as_json(store: Store) -> dict[str, Any]:
    """Return all that a script may want to know of a run; absent facts are null."""
    best = store.best()
    return {
        "id": store.id,
        "status": store.status,
        **{fact.key: _plain(store, fact) for fact in _SHOWN},
        "federated": _plain(store, FEDERATED),
        "usage": {str(number): _usage(usage) for number, usage in usages(store).items()},
        "drift": _drift(store),
        "trials": [serialization.dump(trial) for trial in store.trials()],
        "pareto": [trial.index for trial in store.pareto()],
        "best": None if best is None else best.index,
        "artifacts": [serialization.dump(artifact) for artifact in store.artifacts()],
        "conditions": [_condition(store, name) for name in conditions_of(store)],
    }


def _condition(store: Store, name: str) -> dict[str, Any]:
    """Return the base model's figures under a condition of the data, and which artifact is the plan for it."""
    chosen = next((one for one in chosen_artifacts(store) if one.condition == name), None)
    return {"name": name, "base": _plain(store, BASE.of(name)), "artifact": None if chosen is None else chosen.id}


def _plain(store: Store, fact: Fact[Any]) -> Any:
    value = store.get(fact)
    return None if value is None else fact.plain(value)


def _usage(usage: Usage) -> dict[str, Any]:
    return {**asdict(usage), "idle_s": usage.idle_s}


def _drift(store: Store) -> dict[str, Any] | None:
    drift: Drift | None = drift_of(store.trials())
    return None if drift is None else {**asdict(drift), "share": drift.share}
