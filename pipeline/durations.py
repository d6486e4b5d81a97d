"""Durations: seconds as one writes and says them."""

from __future__ import annotations

import math
import re

_UNITS_S = {"h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(h|min|m|s)")


def parse_duration_s(text: str) -> float:
    """Return the seconds that a text stands for: numbers, each with its unit, h, m (or min) or s.

    Raises:
        ValueError: it is none, or of no length.

    >>> parse_duration_s("2h"), parse_duration_s("1h30m"), parse_duration_s("90 s"), parse_duration_s("0.5 h")
    (7200.0, 5400.0, 90.0, 1800.0)
    """
    parts = _PART.findall(text.lower())
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if _PART.sub("", text.lower()).strip() or not 0 < seconds < math.inf:
        raise ValueError("should be a duration, such as 90s, 30m, 2h or 1h30m")
    return seconds


def say_duration(seconds: float) -> str:
    """Return a time as one says it.

    >>> say_duration(42.2), say_duration(75), say_duration(7500)
    ('42 s', '1 min 15 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
