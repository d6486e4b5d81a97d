"""Targets: latency=0.5x, energy=20mJ, size=300kB, density=0.2x, as constraints; latency=20ms@pi4 on one kind."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import ConfigError, nearest

Metric = Literal["latency", "energy", "power", "size", "density"]

_UNITS: Mapping[Metric, Mapping[str, float]] = {
    "latency": {"us": 1e-3, "ms": 1.0, "s": 1e3},
    "energy": {"uj": 1e-3, "mj": 1.0, "j": 1e3},
    "power": {"mw": 1e-3, "w": 1.0},
    "size": {"b": 1.0, "kb": 1e3, "mb": 1e6, "kib": 1024.0, "mib": 1024.0**2},
    "density": {},
}
_SHOWN: Mapping[Metric, str] = {"latency": "ms", "energy": "mJ", "power": "W", "size": "B"}


@dataclass(frozen=True, slots=True)
class Target:
    """One constraint: ``limit`` in ms, mJ, W or bytes, or a share of the base model's figure.

    Density is the share of the base model's weights that are not zero: ``relative`` always.
    """

    metric: Metric
    limit: float
    relative: bool
    on: str = ""
    """The board, group or kind that it holds for, of a run on several kinds; empty: all of them."""

    def __str__(self) -> str:
        """Return the target as the user types it."""
        unit = "x" if self.relative else _SHOWN[self.metric]
        return f"{self.metric}={self.limit:.12g}{unit}{self.on and f'@{self.on}'}"

    def share(self, base: float) -> float:
        """Return the limit as a share of the base model's figure."""
        return self.limit if self.relative else self.limit / base


def parse_target(text: str) -> Target:
    """Return the target in ``text``.

    >>> parse_target("latency=0.5x"), str(parse_target("size=300kB@pi4"))
    (Target(metric='latency', limit=0.5, relative=True, on=''), 'size=300000B@pi4')

    Raises:
        ConfigError: unknown metric or unit, or no positive number.
    """
    name, _, rest = text.partition("=")
    value, at, on = rest.partition("@")
    metric = name.strip().lower()
    if metric not in _UNITS:
        raise ConfigError(f"target {text!r}: unknown metric{nearest(metric, _UNITS)}; there are: {', '.join(_UNITS)}")
    if at and not on.strip():
        raise ConfigError(f"target {text!r}: after the @ stands a board, a group or a kind of the run")
    units = _UNITS[metric]  # type: ignore[index]
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e[-+]?[0-9]+)?)\s*([a-zA-Z]+)\s*", value)
    unit = match[2].lower() if match else ""
    if metric == "density" and (match is None or unit != "x" or not 0 < float(match[1]) < 1):
        raise ConfigError(
            f"target {text!r}: density is the share of the base model's weights that may be other than zero: expected "
            "a number between 0 and 1 with an x, for example density=0.2x"
        )
    if match is None or not 0 < float(match[1]) < math.inf or (unit != "x" and unit not in units):
        raise ConfigError(f"target {text!r}: expected for example {metric}=0.5x or {metric}=20{_SHOWN[metric]}")  # type: ignore[index]
    limit = float(match[1]) * (1.0 if unit == "x" else units[unit])
    return Target(metric, limit, unit == "x", on.strip())  # type: ignore[arg-type]


def targets_on(texts: Sequence[str], names: Collection[str]) -> tuple[str, ...]:
    """Return the targets that hold on a board of these names, as it would be typed of that board alone.

    One that names the board stands in place of one that holds for all.

    >>> targets_on(["latency=0.5x", "size=1MB", "latency=20ms@pi4", "latency=9ms@nano"], ["pi4", "raspberry-pi-4"])
    ('size=1MB', 'latency=20ms')
    """
    parsed = [(text, parse_target(text)) for text in texts]
    own = {target.metric for _, target in parsed if target.on in names}
    return tuple(
        text.partition("@")[0]
        for text, target in parsed
        if target.on in names or (not target.on and target.metric not in own)
    )
