"""Reward and its terms, a pure function of accuracy, measurement and plan.

R = α·A − β·P − γ·I − λ·|a| − latency·L − violation·V, after AKPERL (α, β, γ, λ; global and per layer), with

    A  accuracy over the base model's                L  median latency over the base model's, paired
    P  mean power over the base model's              V  Σ over targets of how far the limit is exceeded, relative to it
    I  share of a group's channels that is gone      |a|  the group's pruning level, 0 to 1

Per layer, a group's own weights replace the global ones and the sums over groups become means, so that with equal
weights both readings agree. Each term is relative to the base model on the same device in the same session: terms in
milliseconds or watts would swamp the learner and could not be compared between boards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import MeasureError
from pipeline.measurement import retries
from pipeline.measurement.relative_costs import RelativeCosts, violation
from pipeline.measurement.validity import why_invalid
from pipeline.records import Measurement, Power, SearchSpace
from pipeline.targets import Metric


@dataclass(frozen=True, slots=True)
class Weights:
    """The reward's weights; the per-layer ones have one entry a group."""

    alpha: Sequence[float]
    beta: Sequence[float]
    gamma: Sequence[float]
    lambda_: Sequence[float]
    latency: float
    violation: float


def reward(
    accuracy: float,
    costs: RelativeCosts,
    space: SearchSpace,
    levels: tuple[int, ...],
    weights: Weights,
    limits: Mapping[Metric, float],
) -> tuple[float, dict[str, float]]:
    """Return the reward and its signed terms, which add up to it.

    Args:
        accuracy: share of right answers over the base model's.
        limits: for each target its limit as a share of the base model's figure.

    Raises:
        MeasureError: the latency, or a target's figure, was not measured.
    """
    if costs.latency is None:
        raise MeasureError("the latency of this candidate was not measured")
    kept = space.kept(levels)
    gone = channels_gone(space, levels)
    shares = [level / 100 if k else 1.0 for level, k in zip(levels, kept, strict=True)]  # a removed block goes whole
    terms = {
        "accuracy": _mean(weights.alpha) * accuracy,
        "intensity": -_mean(g * i for g, i in zip(weights.gamma, gone, strict=True)),
        "level": -_mean(w * a for w, a in zip(weights.lambda_, shares, strict=True)),
        "latency": -weights.latency * costs.latency,
        "violation": -weights.violation * violation(costs, limits),
    }
    if costs.power is not None:
        terms["power"] = -_mean(weights.beta) * costs.power
    return sum(terms.values()), terms


def channels_gone(space: SearchSpace, levels: tuple[int, ...]) -> list[float]:
    """Return the share of each group's channels that a plan takes out: the pruning intensity, group by group."""
    return [1 - kept / group.channels for kept, group in zip(space.kept(levels), space.groups, strict=True)]


def require_comparable(measurement: Measurement, base: Measurement | None = None) -> None:
    """Refuse a measurement that no reward may rest on.

    Args:
        measurement: of a network, beside the base model.
        base: the base model's own, by which targets in watts and joules are read.

    Raises:
        MeasureError: the measurement is invalid, or its power is measured and the base model's estimated, or the other
            way round.
    """
    if measurement.ratio is None:
        raise ValueError("the measurement ran without a reference")
    if why_invalid(measurement):
        raise MeasureError(retries.describe_quarantine(measurement))
    if base is not None:
        _require_same_kind(measurement.power, base.power)


def _require_same_kind(power: Power | None, base: Power | None) -> None:
    if power is not None and base is not None and power.estimated != base.estimated:
        kinds = {True: "estimated", False: "measured"}
        raise MeasureError(
            f"the candidate's power is {kinds[power.estimated]} ({power.source}), the base model's "
            f"{kinds[base.estimated]} ({base.source}): they cannot be compared; name one sensor, start anew"
        )


def _mean(values: Iterable[float]) -> float:
    items = list(values)
    return sum(items) / len(items)
