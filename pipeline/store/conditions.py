"""Conditions of a run's data: their names, what is known of each, and what only runs of one can be asked."""

from __future__ import annotations

from pipeline.records import Artifact, Figures
from pipeline.store.facts import BASE, CONFIG, WINNER, Fact
from pipeline.store.store import Store


def conditions_of(store: Store) -> tuple[str, ...]:
    """Return the names of the conditions that a run was started with; empty: it has none."""
    config = store.get(CONFIG)
    return () if config is None else tuple(map(str, config.get("conditions") or ()))


def base_of(store: Store, artifact: Artifact) -> Figures:
    """Return the base model's figures under the condition that an artifact is for."""
    return store.required(BASE.of(artifact.condition) if artifact.condition else BASE)


def winner_of(number: int, condition: str) -> Fact[str]:
    """Return the fact that names a round's winner under a condition; "": of a run that has none.

    >>> winner_of(1, "").key, winner_of(1, "fog:3").key
    ('winner 1', 'winner 1 fog:3')
    """
    return WINNER.of(f"{number} {condition}".rstrip())


def chosen_artifacts(store: Store) -> list[Artifact]:
    """Return what a run chose: one network, or one for each condition in their order; empty: it is not so far."""
    chosen = {artifact.condition: artifact for artifact in store.artifacts() if artifact.chosen}
    order = [name for name in conditions_of(store) if name in chosen]
    return [chosen[name] for name in order] or list(chosen.values())


def why_several(store: Store, what: str) -> str:
    """Return why a run does not do where there has to be one network; empty: it does.

    Args:
        store: the run's.
        what: is made or told of one network: "baselines are".
    """
    names = conditions_of(store)
    if len(names) < 2:
        return ""
    return (
        f"has a network for each of {len(names)} conditions ({', '.join(names)}), and {what} of one; start a run with "
        f"one of them: --condition {names[0]}"
    )
