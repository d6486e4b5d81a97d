"""Search spaces of a run's rounds, and plans that have to fit them."""

from __future__ import annotations

from pipeline.errors import StoreError
from pipeline.records import PruningPlan, SearchSpace
from pipeline.store import Store
from pipeline.store.facts import SPACE


def remember_space(store: Store, number: int, space: SearchSpace) -> None:
    """Store the space of a round; ``space`` alone is the last round's, which holds the chosen network."""
    store.set(SPACE.of(number), space)
    store.set(SPACE, space)


def require_plan(store: Store, space: SearchSpace, plan: PruningPlan, what: str) -> None:
    """Raise StoreError where a stored plan is none of the space that is stored beside it."""
    try:
        space.kept(plan.levels)
        space.zeros(plan)
    except ValueError as error:
        raise StoreError(f"run {store.id} is damaged: its {what} does not fit its search space ({error})") from error


def space_of_round(store: Store, number: int) -> SearchSpace:
    """Return the space that a round's plans are made for."""
    return store.required(SPACE.of(number))
