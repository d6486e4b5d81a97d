"""The static baselines that a run has in its store, as entries of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.comparison.run_figures import RIVAL, Entry, answered_images, figures_of
from pipeline.errors import UserError
from pipeline.records import Baseline, Interval
from pipeline.store import Store
from pipeline.store.facts import BASE, BASELINE, CONFIG, RIVALS
from pipeline.targets import parse_target

NONE, MAGNITUDE, L1_IN_TRAINING = NAMES = ("none", "magnitude", "l1-in-training")


def known_baselines(store: Store) -> list[Baseline]:
    """Return the baselines that a finished run has; the base model, which needs no work, always."""
    base = store.required(BASE)
    itself = Interval(1.0, 1.0, 1.0)
    unpruned = Baseline(name=NONE, figures=replace(base, measurement=replace(base.measurement, ratio=itself)))
    stored = (store.get(BASELINE.of(name)) for name in NAMES)
    return [unpruned, *(baseline for baseline in stored if baseline is not None)]


def known_rivals(store: Store) -> list[Baseline]:
    """Return the networks that a finished run's user might have taken instead, as far as they were measured."""
    return store.get(RIVALS) or []


def rival_entries(store: Store, entry: Entry) -> list[Entry]:
    """Return a run's rivals as entries beside the run's own."""
    named = [replace(rival, name=f"{RIVAL} {rival.name}") for rival in known_rivals(store)]
    return baseline_entries(store, entry, named)


def missing(store: Store) -> list[str]:
    """Return the names of the baselines that were not made yet."""
    known = {baseline.name for baseline in known_baselines(store)}
    return [name for name in NAMES if name not in known]


def require_cuts(store: Store) -> None:
    """Raise UserError where the run set single weights to zero: as fast as its network is the base model itself."""
    wanted = store.required(CONFIG).get("target") or ()
    if "density" in {parse_target(text).metric for text in ([wanted] if isinstance(wanted, str) else wanted)}:
        raise UserError(
            f"run {store.id} set single weights to zero, which changes no latency; baselines are cut until they are as "
            "fast as a run's network, and this one is as fast as its base: compare it without --baselines"
        )


def baseline_entries(store: Store, entry: Entry, baselines: Sequence[Baseline]) -> list[Entry]:
    """Return a run's baselines as entries beside the run's own, which says what they have in common."""
    base = store.required(BASE)
    found = []
    for baseline in baselines:
        if baseline.figures is not None:
            figures, intervals = figures_of(baseline.figures, base, answered_images(store))
            found.append(
                replace(entry, baseline=baseline.name, figures=figures, intervals=intervals, points=())
            )  # fmt: skip
    return found
