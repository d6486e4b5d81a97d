"""Which points no other point beats in everything."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.records import Measurement


def non_dominated(costs: Sequence[tuple[float, ...]]) -> list[int]:
    """Return the positions, ascending, of the points that none dominates; every cost is to be small.

    Of equal points the first stays.

    >>> non_dominated([(1.0, 5.0), (2.0, 2.0), (3.0, 3.0), (2.0, 2.0)])
    [0, 1]
    """
    front: list[int] = []
    # In ascending order a point can be dominated only by one before it.
    for position in sorted(range(len(costs)), key=lambda i: (costs[i], i)):
        if not any(_at_least_as_good(costs[other], costs[position]) for other in front):
            front.append(position)
    return sorted(front)


def device_costs(accuracies: Sequence[float], measurements: Sequence[Measurement]) -> list[tuple[float, ...]]:
    """Return for each network what it costs: error, latency and, where it was measured, energy.

    Latency is the ratio to the reference where every measurement has one, else the median in ms. Energy counts only
    where every measurement has it: a network without a figure is neither better nor worse than another.
    """
    paired = all(m.ratio is not None for m in measurements)
    energies = [_energy(m) for m in measurements]
    costs: list[tuple[float, ...]] = []
    for accuracy, measurement, energy in zip(accuracies, measurements, energies, strict=True):
        ratio = measurement.ratio if paired else None
        cost = (-accuracy, (ratio or measurement.p50_ms).value)
        costs.append(cost if energy is None or None in energies else (*cost, energy))
    return costs


def _at_least_as_good(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True))


def _energy(measurement: Measurement) -> float | None:
    return None if measurement.power is None else measurement.power.energy_total_mj.value
