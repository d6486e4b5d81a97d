"""Drift of one board away from the others of a run, by the base model that it runs beside every candidate.

What all boards do together, as in a room that becomes warmer, is none. What one does alone may be a fan that stopped, a
supply that gives way, or a neighbour: its ratios are free of it to first order only.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

DRIFTED = 0.03
"""Of the base model's latency: a shift of the reference by more than this sets a batch of measurements aside."""
IN_A_ROW = 4
"""Measurements that have to show it, each by itself: one may be a neighbour's doing."""


def drifted_away(slowdowns: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the boards that have drifted away from the others, with how far: 0.05 is 5 % slower than they are.

    One has, if each of its last ``IN_A_ROW`` measurements shows it ``DRIFTED`` away from the median of the others'
    last ones, and from where it began itself. A board alone has no others to drift away from.

    Args:
        slowdowns: of each board that measures, the latest last: the base model's latency over the one that the run
            began with there, less one.

    >>> drifted_away({"a": [0.0, 0.04, 0.05, 0.05, 0.06], "b": [0.01, 0.0, 0.01], "c": [0.0]})
    {'a': 0.045}
    >>> drifted_away({"a": [0.05] * 4, "b": [0.05] * 4}), drifted_away({"a": [0.05] * 4})
    ({}, {})
    """
    found = {}
    for name, own in slowdowns.items():
        others = [other[-1] for one, other in slowdowns.items() if one != name and other]
        last = own[-IN_A_ROW:]
        if not others or len(last) < IN_A_ROW:
            continue
        rest = statistics.median(others)
        away = [one - rest for one in last]
        for sign in (1, -1):
            if all(sign * one > DRIFTED for one in away) and all(sign * one > DRIFTED for one in last):
                found[name] = round(statistics.median(away), 6)
    return found
