"""Pure: accuracy, measurement and plan in, reward and its terms out; and the targets that a plan has to meet.

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
from pipeline.measurement.validity import why_invalid
from pipeline.records import Interval, Measurement, Power, SearchSpace
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


@dataclass(frozen=True, slots=True)
class Ratios:
    """A network's figures over the base model's; None: not measured."""

    accuracy: float
    latency: float
    power: float | None = None
    energy: float | None = None
    size: float = 1.0
    density: float = 1.0
    """Weights that are not zero over all of the base model's; counted, never measured."""

    def of(self, metric: Metric) -> float | None:
        """Return the figure of a target's metric."""
        known: dict[Metric, float | None] = {
            "latency": self.latency, "energy": self.energy, "power": self.power, "size": self.size,
            "density": self.density,
        }  # fmt: skip
        return known[metric]


def reward(
    ratios: Ratios, space: SearchSpace, levels: tuple[int, ...], weights: Weights, limits: Mapping[Metric, float]
) -> tuple[float, dict[str, float]]:
    """Return the reward and its signed terms, which add up to it.

    Args:
        limits: for each target its limit as a share of the base model's figure.

    Raises:
        MeasureError: a target's figure was not measured.
    """
    kept = space.kept(levels)
    gone = channels_gone(space, levels)
    shares = [level / 100 if k else 1.0 for level, k in zip(levels, kept, strict=True)]  # a removed block goes whole
    terms = {
        "accuracy": _mean(weights.alpha) * ratios.accuracy,
        "intensity": -_mean(g * i for g, i in zip(weights.gamma, gone, strict=True)),
        "level": -_mean(w * a for w, a in zip(weights.lambda_, shares, strict=True)),
        "latency": -weights.latency * ratios.latency,
        "violation": -weights.violation * violation(ratios, limits),
    }
    if ratios.power is not None:
        terms["power"] = -_mean(weights.beta) * ratios.power
    return sum(terms.values()), terms


def channels_gone(space: SearchSpace, levels: tuple[int, ...]) -> list[float]:
    """Return the share of each group's channels that a plan takes out: the pruning intensity, group by group."""
    return [1 - kept / group.channels for kept, group in zip(space.kept(levels), space.groups, strict=True)]


def violation(ratios: Ratios, limits: Mapping[Metric, float]) -> float:
    """Return by how much the limits are exceeded, relative to them; 0: all are met.

    Raises:
        MeasureError: a target's figure was not measured, so that nobody can say whether it is met.

    >>> violation(Ratios(accuracy=1.0, latency=0.6), {"latency": 0.5})
    0.2
    """
    excess = 0.0
    for metric, limit in limits.items():
        figure = ratios.of(metric)
        if figure is None:
            raise MeasureError(f"the {metric} of this candidate was not measured, and there is a target for it")
        excess += max(0.0, figure / limit - 1)
    return round(excess, 9)


def ratios_of(
    accuracy: float,
    base_accuracy: float,
    size: float,
    measurement: Measurement,
    base: Measurement | None = None,
    *,
    density: float = 1.0,
) -> Ratios:
    """Return a measured network's figures over the base model's.

    Args:
        accuracy: share of right answers; ``base_accuracy`` alike.
        size: bytes over the base model's bytes.
        measurement: of the network, beside the base model.
        base: the base model's own measurement, by which targets in watts and joules are read.
        density: see ``Ratios``.

    Raises:
        MeasureError: the measurement is invalid, or its power is measured and the base model's estimated, or the other
            way round: neither may be rewarded.
    """
    if measurement.ratio is None:
        raise ValueError("the measurement ran without a reference")
    if why_invalid(measurement):
        raise MeasureError(retries.told(measurement))
    if base is not None:
        _require_same_kind(measurement.power, base.power)
    return Ratios(
        accuracy / base_accuracy, measurement.ratio.value, _value(measurement.power_ratio),
        _value(measurement.energy_ratio), size, density,
    )  # fmt: skip


def _value(ratio: Interval | None) -> float | None:
    return None if ratio is None else ratio.value


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
