"""Reward and its terms, a pure function of accuracy, measurement and plan.

R = α·A − β·P − γ·I − λ·|a| − latency·L − violation·V, after AKPERL (α, β, γ, λ), with

    A  accuracy over the base model's                L  median latency over the base model's, paired
    P  mean power over the base model's              V  Σ over targets of how far the limit is exceeded, relative to it
    I  share of a group's channels that is gone      |a|  the group's pruning level, 0 to 1

Layer by layer, as AKPERL weighs them: the step that decides group i of n earns

    r_i = αi·ΔA_i − βi·ΔP_i − γi·I_i/n − λi·|a_i|/n

where ΔA_i is the accuracy once group i is cut, less that before, both over the base model's; ΔP_i the same of power.
What a plan earns by accuracy is the mean of αi, which cutting nothing earns, and the sum of αi·ΔA_i; so with power. I
and |a| are means over groups, so that with equal weights both readings agree.
Each term is relative to the base model on the same device in the same session: terms in milliseconds or watts would
swamp the learner and could not be compared between boards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

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

    @property
    def differ(self) -> bool:
        """Whether a group's accuracy or power counts otherwise than another's, so that each has to be known."""
        return len({*self.alpha}) > 1 or len({*self.beta}) > 1


@dataclass(frozen=True, slots=True)
class AfterEachGroup:
    """What a plan had once it was cut up to each group, (groups,), over the base model's figures."""

    accuracy: Sequence[float]
    power: Sequence[float] | None
    """None: not measured."""


def reward(
    accuracy: float,
    costs: RelativeCosts,
    space: SearchSpace,
    levels: tuple[int, ...],
    weights: Weights,
    limits: Mapping[Metric, float],
    after: AfterEachGroup | None = None,
) -> tuple[float, dict[str, float]]:
    """Return the reward and its signed terms, which add up to it.

    Args:
        accuracy: share of right answers over the base model's.
        limits: for each target its limit as a share of the base model's figure.
        after: what each group's step changed; None: as where all groups weigh the same.

    Raises:
        MeasureError: the latency, or a target's figure, was not measured.
    """
    if costs.latency is None:
        raise MeasureError("the latency of this candidate was not measured")
    kept = space.kept(levels)
    gone = channels_gone(space, levels)
    shares = [level / 100 if k else 1.0 for level, k in zip(levels, kept, strict=True)]  # a removed block goes whole
    terms = {
        "accuracy": _by_steps(weights.alpha, accuracy, after.accuracy if after else None),
        "intensity": -_mean(g * i for g, i in zip(weights.gamma, gone, strict=True)),
        "level": -_mean(w * a for w, a in zip(weights.lambda_, shares, strict=True)),
        "latency": -weights.latency * costs.latency,
        "violation": -weights.violation * violation(costs, limits),
    }
    if costs.power is not None:
        terms["power"] = -_by_steps(weights.beta, costs.power, after.power if after else None)
    return sum(terms.values()), terms


def _by_steps(weights: Sequence[float], whole: float, after: Sequence[float] | None) -> float:
    """Return what a figure over the base model's is worth, each group's step by its own weight.

    >>> _by_steps([1.0, 3.0], 0.7, after=[0.9, 0.7]), _by_steps([2.0, 2.0], 0.7, after=None)
    (1.3, 1.4)
    """
    if after is None:
        return _mean(weights) * whole
    changes = (here - before for before, here in pairwise([1.0, *after]))
    return round(_mean(weights) + sum(w * change for w, change in zip(weights, changes, strict=True)), 12)


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
