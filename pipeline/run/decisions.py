"""Decisions for the whole network, taken once before anything is cut, each kind by what the device measures.

What is compared stays the base model as the user brought it, which every ratio is over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.errors import ConfigError
from pipeline.evaluation.candidate_builder import score_as_deployed
from pipeline.events import Note
from pipeline.run.base_model import Base
from pipeline.run.context import Context
from pipeline.run.decision_kind import AS_ASKED, AUTO, D, Decision, Kind, Unfit
from pipeline.run.precision import Precision
from pipeline.store import Store

KINDS: tuple[Kind[Any], ...] = (Precision(),)
"""In the order in which they are decided, each with those before it applied; as in ``store.facts.DECISIONS``."""


def with_decisions(context: Context, base: Base, kinds: Sequence[Kind[Any]] = KINDS) -> Context:
    """Return the context in which networks are made as decided; each kind is decided once in a run, and stored.

    Raises:
        ConfigError: a value was asked for by name, and cannot be had; says why.
        DeviceError: the device cannot be used.
    """
    for kind in kinds:
        decision = context.store.get(kind.fact)
        if decision is None:
            decision = _decided(context, base, kind)
            context.store.set(kind.fact, decision)
            context.listen(Note(decision.why))
        if decision.changes:
            context = kind.applied(context, decision)
    return context


def judge_on_test(context: Context, base: Base) -> None:
    """Store how the uncut network, made as decided, answers the test split."""
    for kind in KINDS:
        decision = context.store.get(kind.fact)
        if decision is not None and decision.changes and decision.base is not None:
            scored = score_as_deployed(base.network, context.format, context.data.test, context.data.task)
            uncut = replace(decision.base, test_accuracy=scored)
            context.store.set(kind.fact, replace(decision, base=uncut))


def decisions_in_recipe(store: Store) -> dict[str, Mapping[str, Any]]:
    """Return what a recipe says of a run's decisions, by their kinds' names; nothing of what changes nothing."""
    found = ((kind, store.get(kind.fact)) for kind in KINDS)
    return {kind.fact.key: kind.in_recipe(one) for kind, one in found if one is not None and one.changes}


def _decided(context: Context, base: Base, kind: Kind[D]) -> D:
    wanted = kind.wanted(context.config)
    if wanted == kind.unchanged:
        return kind.stays(AS_ASKED)
    is_asked_for = wanted != AUTO
    found: list[D] = []
    reasons: list[str] = []
    for value in (wanted,) if is_asked_for else kind.values(context):
        try:
            kind.require_possible(context, value)
            found.append(kind.tried(context, base, value, is_asked_for=is_asked_for))
        except Unfit as reason:
            if is_asked_for:
                name = kind.fact.key
                raise ConfigError(f"{name} {value}: {reason.why}; leave it out, or say {kind.unchanged}") from None
            reasons.append(reason.why)
    return min(found, key=_latency) if found else kind.stays("; ".join(reasons))


def _latency(decision: Decision) -> float:
    """Return the uncut network's latency over the base model's; infinite where it was not measured."""
    ratio = None if decision.base is None else decision.base.measurement.ratio
    return float("inf") if ratio is None else ratio.value
