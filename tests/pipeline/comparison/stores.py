"""Finished runs on the disk, made of example records in milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.config import RunConfig
from pipeline.records import Interval, PruningPlan
from pipeline.store import Store
from pipeline.store import facts as facts_of
from pipeline.store.facts import BASE, CONFIG, DEVICE, DEVICE_FACTS, GIT, SECONDS, SEED, SPACE, SPLITS, Fact
from tests.examples import artifact, candidate, device_facts, figures, measurement, pruned_figures, space, trial

CLASSES = 10


def finished_run(
    root: Path,
    *,
    seed: int = 0,
    accuracy: float | None = 0.925,
    latency_ratio: float = 0.5,
    facts: dict[Fact[Any], Any] | None = None,
    finished: bool = True,
    **settings: Any,
) -> str:
    """Write a run whose chosen network has that accuracy and latency; return its id."""
    config = RunConfig.model_validate({"data": "digits", "seed": seed, **settings})
    chosen = Interval(latency_ratio, latency_ratio - 0.01, latency_ratio + 0.01)
    with Store.create(root, label=f"seed {seed}") as store:
        known: dict[Fact[Any], Any] = {
            CONFIG: config.model_dump(mode="json", by_alias=True), SEED: seed, SPACE.of(1): space(),
            DEVICE: {"name": "pi", "kind": "raspberry-pi-4", "power": "null"}, DEVICE_FACTS: device_facts(),
            BASE: figures(channels=32), facts_of.CLASSES: [str(i) for i in range(CLASSES)],
            SECONDS: 60.0 + seed, GIT: "abc",
            SPLITS: {"checksum": "d1", "test": 400, "images": 1797},
        }  # fmt: skip
        for fact, value in {**known, **(facts or {})}.items():
            store.set(fact, value)
        plans = {(25, 0): 0.9, (50, 50): 0.8, (75, 75): 0.6, (0, 100): 0.7}
        for index, (levels, share) in enumerate(plans.items()):
            ratio = Interval(share, share - 0.01, share + 0.01)
            network = {"key": space().key(levels), "candidate": candidate(share - 0.05)}
            plan = PruningPlan(levels=levels)
            store.append(trial(index, plan=plan, measurement=measurement(ratio=ratio), **network))
        store.append(trial(9, plan=PruningPlan(levels=(25, 0)), key=space().key((25, 0)), cached=True))
        after = pruned_figures(channels=20, test_accuracy=accuracy, measurement=measurement(ratio=chosen))
        store.add_artifact(artifact({}, after=after))
        if finished:
            store.finish()
        return store.id
