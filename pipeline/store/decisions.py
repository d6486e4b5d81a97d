"""What a run decided for the whole network before anything was cut: its precision, and other kinds beside it."""

from __future__ import annotations

from pipeline.records import Figures
from pipeline.store.facts import DECISIONS
from pipeline.store.store import Store


def uncut(store: Store) -> Figures | None:
    """Return the figures of the uncut network as it was decided for; None: it is the base model as it is."""
    for fact in reversed(DECISIONS):
        decision = store.get(fact)
        if decision is not None and decision.changes and decision.base is not None:
            base: Figures = decision.base
            return base
    return None


def uncut_latency(store: Store) -> float:
    """Return the uncut network's latency over the base model's: 1 where it is the base model itself."""
    found = uncut(store)
    return 1.0 if found is None or found.measurement.ratio is None else found.measurement.ratio.value


def uncut_size(store: Store, base: Figures) -> float:
    """Return the size of the uncut network's file over the base model's."""
    found = uncut(store)
    return 1.0 if found is None else found.size_bytes / base.size_bytes
