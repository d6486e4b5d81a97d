"""Figures and what they cannot be otherwise: intervals, shares, counts."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le, Predicate
from pydantic import BeforeValidator


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % confidence interval, in the figure's own unit."""

    value: float
    low: float
    high: float
    freedom: Annotated[float, Ge(1)] | None = field(default=None, repr=False, compare=False)
    """Degrees of freedom of the Student's t that it comes from; None: not known, or more than matter."""

    @classmethod
    def of_unknown_width(cls, value: float) -> Interval:
        """Return a positive figure of which no more is known: from 0 to twice itself, too wide to be sure of anything.

        >>> Interval.of_unknown_width(0.8)
        Interval(value=0.8, low=0.0, high=1.6)
        """
        return cls(value, 0.0, min(2 * value, sys.float_info.max))

    def __truediv__(self, scale: float) -> Interval:
        """Return the interval in another unit.

        >>> Interval(2.0, 1.0, 3.0) / 2
        Interval(value=1.0, low=0.5, high=1.5)
        """
        return Interval(self.value / scale, self.low / scale, self.high / scale, self.freedom)

    @property
    def half_width(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2

    @property
    def positive(self) -> bool:
        """Whether the figure is more than zero."""
        return self.value > 0


def _widened(stored: object) -> object:
    """Return a plain number, which older versions stored, as a figure of unknown width."""
    return Interval.of_unknown_width(stored) if isinstance(stored, float) else stored


Positive = Annotated[Interval, Predicate(lambda interval: interval.positive)]
PositiveOnceFloat = Annotated[Positive, BeforeValidator(_widened)]
Share = Annotated[float, Ge(0), Le(1)]
Count = Annotated[int, Ge(1)]
"""What a record cannot be otherwise; reading stored or sent ones (``serialization.load``) checks it."""
WeightBits = Literal[7, 8]
"""Of int8 weights: up to 63 or 127 of either sign."""
