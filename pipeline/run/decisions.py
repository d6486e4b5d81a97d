"""Decisions for the whole network, taken once before anything is cut, each kind by what the device measures.

What is compared stays the base model as the user brought it, which every ratio is over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.errors import ConfigError
from pipeline.evaluation.candidate_builder import score_as_deployed
from pipeline.events import Note
from pipeline.records import Interval
from pipeline.report.table import ratio
from pipeline.run.base_model import Base
from pipeline.run.context import Context
from pipeline.run.decision_kind import AS_ASKED, AUTO, Circumstances, D, Decision, Kind, Unfit
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


def require_possible(known: Circumstances, kinds: Sequence[Kind[Any]] = KINDS) -> None:
    """Raise ConfigError where a value is asked for by name that the device, the run's target or its task rules out."""
    for kind in kinds:
        if (value := kind.wanted(known.config)) not in (AUTO, kind.unchanged):
            try:
                kind.require_possible(known, value)
            except Unfit as reason:
                raise _impossible(kind, value, reason) from None


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
    known = Circumstances(context.config, context.agent, context.format, context.data.task)
    found: list[D] = []
    reasons: list[str] = []
    for value in (wanted,) if is_asked_for else kind.values(context):
        try:
            kind.require_possible(known, value)
            found.append(kind.tried(context, base, value, is_asked_for=is_asked_for))
        except Unfit as reason:
            if is_asked_for:
                raise _impossible(kind, value, reason) from None
            reasons.append(reason.why)
    return _fastest(kind, found, reasons) if found else kind.stays("; ".join(reasons))


def _impossible(kind: Kind[Any], value: str, reason: Unfit) -> ConfigError:
    return ConfigError(f"{kind.fact.key} {value}: {reason.why}; leave it out, or say {kind.unchanged}")


def _fastest(kind: Kind[D], found: Sequence[D], reasons: Sequence[str]) -> D:
    """Return the first but where a later one is faster by the whole intervals of both; it says why none of the others.

    Args:
        kind: of all.
        found: those that the device is faster by than as it was, the least change first.
        reasons: why the rest is not used.
    """
    best = found[0]
    for one in found[1:]:
        if _ratio(one).high < _ratio(best).low:
            best = one
    others = [
        f"{kind.in_words(one)} is {'slower' if _ratio(one).value > _ratio(best).value else 'not surely faster'} "
        f"({ratio(_ratio(one))} of the base model's latency)"
        for one in found
        if one is not best
    ]
    return replace(best, why="; ".join([best.why, *others, *reasons]))  # type: ignore[type-var]


def _ratio(decision: Decision) -> Interval:
    """Return the uncut network's latency over the base model's; infinite where it was not measured."""
    found = None if decision.base is None else decision.base.measurement.ratio
    return found or Interval(math.inf, math.inf, math.inf)
