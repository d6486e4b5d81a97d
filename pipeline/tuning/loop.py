"""Tuning loop: ask for settings, run them, tell the outcome; no settings run twice."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.tuning.objective import Objective, Outcome, value_of
from pipeline.tuning.samplers import Method
from pipeline.tuning.settings import Number, Settings

_REPEATS = 50
"""Suggestions in a row that are known already, after which there is nothing new to expect."""

Key = tuple[tuple[str, Number], ...]


def tune(method: Method, run: Callable[[Settings], Outcome], objective: Objective, budget: int) -> list[Outcome]:
    """Return the outcomes of ``budget`` runs at most, in their order.

    Args:
        run: from settings to what came of them. It may know that from before: then the same suggestions come again in
            the same order, so that a tuning that was killed goes on as if it had not been.
    """
    found: dict[Key, Outcome] = {}
    repeats = 0
    while len(found) < budget and repeats < _REPEATS:
        settings = method.ask()
        if settings is None:
            break
        key = key_of(settings)
        repeats = repeats + 1 if key in found else 0
        if key not in found:
            found[key] = run(settings)
        method.tell(value_of(found[key], objective))
    return list(found.values())


def key_of(settings: Settings) -> Key:
    """Return settings as a key: the same whatever their order."""
    return tuple(sorted(settings.items()))
