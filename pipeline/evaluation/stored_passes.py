"""Passes of one measurement, each in the run's store the moment it is done: a killed run repeats none of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.devices.agent_client import Agent
from pipeline.measurement import retries
from pipeline.measurement.validity import why_invalid
from pipeline.records import Measurement, MeasureSettings
from pipeline.store import Store

PASS = " pass "
"""Stands between a measurement's key and the number of one of its passes."""
Take = Callable[[Agent, MeasureSettings], Measurement]
"""Measures on a board."""


def measure_with_stored_passes(
    store: Store, key: str, agent: Agent, take: Take, settings: MeasureSettings, *, exact: bool = True
) -> Measurement:
    """Return one measurement by ``key`` on a board, taken again where it is invalid; see ``measure_with_retries``."""
    return retries.measure_with_retries(
        lambda settle_s: take(agent, replace(settings, settle_s=max(settings.settle_s, settle_s))),
        tolerant=agent.shared,
        ci_rel=settings.ci_rel,
        exact=exact,
        passes=_Stored(store, f"{key}{PASS}"),
    )


def keep_valid(store: Store, key: str, found: Measurement) -> None:
    """Store a measurement by ``key``; of one that stays invalid nothing is kept, and it is taken anew another time."""
    if why_invalid(found):
        store.forget(f"{key}{PASS}")
    else:
        store.remember(key, found)


@dataclass(frozen=True, slots=True)
class _Stored:
    store: Store
    name: str

    def recall(self, number: int) -> Measurement | None:
        return self.store.recall(f"{self.name}{number}")

    def remember(self, number: int, measurement: Measurement) -> None:
        self.store.remember(f"{self.name}{number}", measurement)
