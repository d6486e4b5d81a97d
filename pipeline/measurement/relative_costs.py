"""Relative costs: a network's latency, power, energy, size and density over the base model's on the same device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import MeasureError
from pipeline.measurement.feasibility import ratios
from pipeline.records import Measurement, Trial
from pipeline.targets import Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class RelativeCosts:
    """Shares of the base model's figures; None: not measured."""

    latency: float | None = None
    power: float | None = None
    energy: float | None = None
    size: float | None = None
    density: float | None = None
    """Weights that are not zero over all of the base model's; counted, as the size is, never measured."""

    @property
    def known(self) -> Mapping[Metric, float]:
        """The figures that there are, by metric.

        >>> RelativeCosts(latency=0.6, size=0.5).known
        {'latency': 0.6, 'size': 0.5}
        """
        of: dict[Metric, float | None] = {
            "latency": self.latency, "power": self.power, "energy": self.energy, "size": self.size,
            "density": self.density,
        }  # fmt: skip
        return {metric: share for metric, share in of.items() if share is not None}


def relative_costs(
    measurement: Measurement, *, size: float | None = None, sparsity: float | None = None
) -> RelativeCosts:
    """Return what a network costs as measured beside the base model.

    Args:
        size: its bytes over the base model's.
        sparsity: share of its weights that are zero, where they are the base model's, some of them zero.
    """
    measured = {metric: ratio.value for metric, ratio in ratios(measurement).items()}
    return RelativeCosts(**measured, size=size, density=1 - (sparsity or 0.0))


def trial_costs(trial: Trial, base_bytes: int) -> RelativeCosts | None:
    """Return what a trial's network costs as measured beside the base model; None where it was not measured.

    Args:
        base_bytes: size of the base model.
    """
    if trial.candidate is None or trial.measurement is None:
        return None
    size = trial.candidate.size_bytes / base_bytes
    return relative_costs(trial.measurement, size=size, sparsity=trial.candidate.sparsity)


def violation(costs: RelativeCosts, limits: Mapping[Metric, float]) -> float:
    """Return by how much limits are exceeded, relative to them; 0: all are met.

    Raises:
        MeasureError: a target's figure was not measured, so that nobody can say whether it is met.

    >>> violation(RelativeCosts(latency=0.6), {"latency": 0.5})
    0.2
    """
    known, excess = costs.known, 0.0
    for metric, limit in limits.items():
        if metric not in known:
            raise MeasureError(f"the {metric} of this candidate was not measured, and there is a target for it")
        excess += max(0.0, known[metric] / limit - 1)
    return round(excess, 9)
