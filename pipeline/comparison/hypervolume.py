"""Hypervolume of a Pareto front in latency ratio and accuracy; exact.

The hypervolume (Zitzler and Thiele, IEEE Transactions on Evolutionary Computation 3, 1999) is the area of all pairs
(latency, accuracy) that some network of the front beats in both and that beat the reference point in both. Here that
point is the base model's own latency (a ratio of 1) at the accuracy of guessing: a network slower than the base model
or no better than a guess adds nothing. A network as good as perfect in no time at all would make it 1 - guess.

Accuracies are those of the search split, by which the networks of the front were picked: by chance the best of many are
above what they are worth, so the area is too large, and grows with the number of different networks.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.pareto import non_dominated

REFERENCE_LATENCY = 1.0
"""The base model's, over itself."""


def hypervolume(points: Sequence[tuple[float, float]], *, latency: float, accuracy: float) -> float:
    """Return the area that ``points`` (latency, accuracy) dominate, up to the reference point.

    >>> hypervolume([(0.5, 0.9)], latency=1.0, accuracy=0.1)
    0.4
    >>> hypervolume([(0.5, 0.6), (0.25, 0.4), (0.6, 0.5), (1.2, 1.0)], latency=1.0, accuracy=0.1)
    0.325
    """
    better = [(ratio, share) for ratio, share in points if ratio < latency and share > accuracy]
    front = sorted(better[i] for i in non_dominated([(ratio, -share) for ratio, share in better]))
    area, end = 0.0, latency
    for ratio, share in reversed(front):  # on the front, the slower is the more accurate
        area += (end - ratio) * (share - accuracy)
        end = ratio
    return round(area, 12)


def of_networks(points: Sequence[tuple[float, float]], classes: int) -> float:
    """Return the hypervolume of networks (latency ratio, accuracy) that tell so many classes apart.

    Of a task without classes, 0, a guess is worth nothing.
    """
    return hypervolume(points, latency=REFERENCE_LATENCY, accuracy=1 / classes if classes else 0.0)
