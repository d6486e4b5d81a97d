"""Judgement: the controller and every opponent on held-out streams, in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.adaptation.choice import (
    CASCADE,
    CASCADE_KEEPING,
    GATE,
    RULE,
    RULE_KEEPING,
    Choice,
    LearnedPoint,
    policy_of,
)
from pipeline.adaptation.cost_at_accuracy import Ratio, cost_ratio, hull_of, mean_cost_at, stacked, standard_error
from pipeline.adaptation.learning import PRICES
from pipeline.adaptation.policies import AlertPolicy, ConditionOracle, FixedPolicy, FrameOracle, Keep, RulePolicy
from pipeline.adaptation.replay import Floats, Outcome, Policy, replay, trace
from pipeline.adaptation.streams import Streams
from pipeline.records import Interval
from pipeline.records.adaptation import CostRatio, Decisions, JudgedStreams, Method

BELOW = (0.02, 0.01, 0.0)
"""Under the best fixed variant's accuracy, at which costs are compared."""
TIME_MIX, ALERT, ORACLE, ORACLE_KEEPING, FRAME_ORACLE = (
    "best time-mix", "ALERT-like", "condition oracle", "condition oracle, answers kept", "frame oracle",
)  # fmt: skip
LEARNED, LEARNED_KEEPING = "learned, nothing kept", "learned"
ORACLES = (ORACLE, ORACLE_KEEPING, FRAME_ORACLE)
"""Know what no controller can."""
SHOWN_FRAMES = 600
"""Of the stream whose decisions are kept for the report."""


def judge(streams: Streams, choice: Choice, tuning: Sequence[Streams], *, coherent: bool, seen: bool) -> JudgedStreams:
    """Return the table of one set of streams.

    Args:
        streams: of images that decided nothing.
        choice: what ships, and its opponents' settings.
        tuning: by which ALERT's table of accuracies is made.
        coherent: what the streams are, for their name.
        seen: and of which kinds of corruption.
    """
    variants = streams.ladder.names
    alone = replay(streams, FixedPolicy(range(len(variants))))
    best = int(alone.accuracy.mean(1).argmax())
    target = alone.accuracy[best]
    found = {TIME_MIX: alone, **_outcomes(streams, choice, tuning)}
    shipped = shipped_policy(streams, choice)
    ship = LEARNED_KEEPING if choice.ships == "learned" else RULE_KEEPING
    own = {RULE_KEEPING: replay(streams, RulePolicy([choice.points["normal"].rule]))}
    own[ship] = replay(streams, shipped)
    methods = [_method(name, one, target, one) for i, name in enumerate(variants) for one in (alone.of_settings([i]),)]
    methods += [_method(kind, one, target, own.get(kind)) for kind, one in found.items()]
    ms = trace(streams, shipped)
    taken = ms.ms[ms.first >= 0]
    return JudgedStreams(
        coherent=coherent, seen=seen, count=streams.shape[0], length=streams.shape[1], best_fixed=variants[best],
        best_accuracy=float(target.mean()), below=BELOW, methods=tuple(methods),
        ratios=tuple(_ratios(found, ship, target)), p50_ms=float(np.median(taken)),
        p99_ms=float(np.percentile(taken, 99)),
    )  # fmt: skip


def shipped_policy(streams: Streams, choice: Choice) -> Policy:
    """Return what ships, at its normal operating point."""
    point = choice.points["normal"]
    if choice.ships == "learned" and choice.trained is not None and point.learned is not None:
        return policy_of(choice.trained, streams.ladder.costs.tolist(), [point.learned], point.rule)
    return RulePolicy([point.rule])


def decisions_of(streams: Streams, choice: Choice) -> Decisions:
    """Return what ships decides on the first stream."""
    traced = trace(streams, shipped_policy(streams, choice))
    names = [str(streams.frames.conditions[number]) for number in streams.condition[0, :SHOWN_FRAMES]]
    starts = [at for at, name in enumerate(names) if at == 0 or names[at - 1] != name]
    first, last, right = (values[:SHOWN_FRAMES, 0].tolist() for values in (traced.first, traced.last, traced.right))
    return Decisions(
        conditions=tuple((at, names[at]) for at in starts), variants=tuple(last),
        escalated=tuple(one != other for one, other in zip(first, last, strict=True)), right=tuple(map(bool, right)),
    )  # fmt: skip


def _outcomes(streams: Streams, choice: Choice, tuning: Sequence[Streams]) -> dict[str, Outcome]:
    """Return every opponent in all its settings, oracles last."""
    families = choice.families
    found = {kind: replay(streams, RulePolicy(families[kind])) for kind in (CASCADE, GATE)}
    found[ALERT] = replay(streams, _alert(tuning))
    for kind in (RULE, CASCADE_KEEPING, RULE_KEEPING):
        found[kind] = replay(streams, RulePolicy(families[kind]))
    if choice.trained is not None:
        costs, fallback = streams.ladder.costs.tolist(), choice.points["normal"].rule
        unkept = [LearnedPoint(price=price, keep=Keep()) for price in PRICES]
        for kind, points in ((LEARNED, unkept), (LEARNED_KEEPING, choice.prices)):
            found[kind] = replay(streams, policy_of(choice.trained, costs, points, fallback))
    found[ORACLE] = replay(streams, ConditionOracle(PRICES))
    kept = dict.fromkeys(one.keep for one in families[RULE_KEEPING])
    found[ORACLE_KEEPING] = stacked([replay(streams, ConditionOracle(PRICES, keep)) for keep in kept])
    found[FRAME_ORACLE] = replay(streams, FrameOracle([1e-4, *PRICES]))
    return found


def _alert(tuning: Sequence[Streams]) -> AlertPolicy:
    """Return ALERT with the table that the tuning streams give it."""
    right = np.concatenate([one.right for one in tuning])
    labels = np.concatenate([one.labels for one in tuning])
    accuracies = right.mean((0, 1))
    same = float((labels[:, 1:] == labels[:, :-1]).mean())
    return AlertPolicy(accuracies, same * float(accuracies.max()), [0.0, *PRICES])


def _method(name: str, found: Outcome, target: Floats, own: Outcome | None) -> Method:
    costs = [mean_cost_at(found, float(target.mean()) - below) for below in BELOW]
    cost, accuracy = found.cost.mean(1), found.accuracy.mean(1)
    return Method(
        name=name, **_at_own(own), cost_below=tuple(None if np.isnan(one) else one for one in costs),
        curve=tuple((float(cost[i]), float(accuracy[i])) for i in hull_of(found)),
    )  # fmt: skip


def _at_own(own: Outcome | None) -> dict[str, float | None]:
    """Return the figures at the setting that was chosen beforehand."""
    names = ("accuracy", "cost", "late", "switches", "kept")
    if own is None:
        return dict.fromkeys((*names, "accuracy_error"))
    found = {name: float(getattr(own, name).mean()) for name in names}
    return {**found, "switches": 1000 * found["switches"], "accuracy_error": standard_error(own.accuracy[0])}


def _ratios(found: Mapping[str, Outcome], ship: str, target: Floats) -> list[CostRatio]:
    return [
        CostRatio(over=name, below=below, ratio=interval(cost_ratio(found[ship], other, target - below)))
        for name, other in found.items()
        if name not in (ship, FRAME_ORACLE)
        for below in BELOW
    ]


def interval(ratio: Ratio) -> Interval | None:
    """Return a ratio as a record has it; None where it has no value, or no bounds."""
    return (
        Interval(ratio.value, ratio.low, ratio.high)
        if np.isfinite([ratio.value, ratio.low, ratio.high]).all()
        else None
    )
