"""Which points no other point beats in everything."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.records import Interval, Measurement


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

    Latency and energy are ratios to the reference where every measurement has them, else in ms and mJ. Energy counts
    only where every measurement has it: a network without a figure is neither better nor worse than another.
    """
    latency = _figures([m.ratio for m in measurements]) or _figures([m.p50_ms for m in measurements])
    energy = _figures([m.energy_ratio for m in measurements]) or _figures([_energy_mj(m) for m in measurements])
    columns = [[-accuracy for accuracy in accuracies], *filter(None, (latency, energy))]
    return list(zip(*columns, strict=True))


def _at_least_as_good(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True))


def _figures(intervals: Sequence[Interval | None]) -> list[float]:
    """Return the figures of all measurements; none where one lacks its own."""
    known = [interval.value for interval in intervals if interval is not None]
    return known if len(known) == len(intervals) else []


def _energy_mj(measurement: Measurement) -> Interval | None:
    return None if measurement.power is None else measurement.power.energy_total_mj
