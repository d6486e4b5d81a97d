"""The static baselines that a run has in its store, as entries of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline import serialization
from pipeline.comparison.run_figures import Entry, figures_of, test_images
from pipeline.errors import UserError
from pipeline.records import REPLAY, Figures, Interval
from pipeline.store import Store
from pipeline.targets import parse_target

NONE, MAGNITUDE, L1_IN_TRAINING = NAMES = ("none", "magnitude", "l1-in-training")


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """One baseline of a run."""

    name: str
    figures: Figures | None
    """None: no plan of this kind is fast enough."""
    limit: Interval | None = None
    """The latency ratio of the run's own network, measured in the same session; None: nothing had to be as fast."""
    share: float | None = None
    """Of each group's channels, or of all units together, that was to stay."""
    channels: Mapping[str, int] | None = None
    """Group → channels that stay."""
    why_not: str = ""


def fact_of(name: str) -> str:
    """Return the fact in which a run's store keeps a baseline."""
    return f"baseline {name}"


def known_baselines(store: Store) -> list[Baseline]:
    """Return the baselines that a finished run has; the base model, which needs no work, always."""
    base = serialization.load(Figures, store.required("base"))
    itself = Interval(1.0, 1.0, 1.0)
    unpruned = Baseline(name=NONE, figures=replace(base, measurement=replace(base.measurement, ratio=itself)))
    stored = (store.get(fact_of(name)) for name in NAMES)
    return [unpruned, *(serialization.load(Baseline, told) for told in stored if told is not None)]


def missing(store: Store) -> list[str]:
    """Return the names of the baselines that were not made yet."""
    known = {baseline.name for baseline in known_baselines(store)}
    return [name for name in NAMES if name not in known]


def require_board(store: Store) -> None:
    """Raise UserError where the run's device is a recording, which answers for no other network."""
    device = store.get("device") or {}
    if device.get("kind") == REPLAY:
        raise UserError(
            f"run {store.id} was played back from a recording, which knows the latencies of its own networks alone; "
            "baselines need the board: run again on it"
        )


def require_cuts(store: Store) -> None:
    """Raise UserError where the run set single weights to zero: as fast as its network is the base model itself."""
    if "density" in {parse_target(text).metric for text in store.required("config").get("target") or ()}:
        raise UserError(
            f"run {store.id} set single weights to zero, which changes no latency; baselines are cut until they are as "
            "fast as a run's network, and this one is as fast as its base: compare it without --baselines"
        )


def baseline_entries(store: Store, entry: Entry, baselines: Sequence[Baseline]) -> list[Entry]:
    """Return a run's baselines as entries beside the run's own, which says what they have in common."""
    base = serialization.load(Figures, store.required("base")).measurement
    found = []
    for baseline in baselines:
        if baseline.figures is not None:
            figures, intervals = figures_of(baseline.figures, base, test_images(store))
            found.append(
                replace(entry, baseline=baseline.name, figures=figures, intervals=intervals, points=())
            )  # fmt: skip
    return found
