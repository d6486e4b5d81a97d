"""Which space a plan belongs to: every round cuts another network, so each has a space of its own in the store."""

from __future__ import annotations

from pipeline import codec
from pipeline.records import SearchSpace
from pipeline.store import Store


def remember_space(store: Store, number: int, space: SearchSpace) -> None:
    """Store the space of a round; ``space`` alone is the last round's, which holds the chosen network."""
    store.set(f"space {number}", space)
    store.set("space", space)


def space_of_round(store: Store, number: int) -> SearchSpace:
    """Return the space that a round's plans are made for."""
    return codec.load(SearchSpace, store.get(f"space {number}"))
