"""Error scaling: predicted deviations scaled by recent standardised errors.

A plan is compared with what was predicted of it before it was measured. Searches ask for plans because they are
predicted to be good, so those predictions err more than others do, and by more than a model knows from the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

_MEMORY = 0.93
"""How much a surprise counts against the one after it: half of all weight is on the last ten."""
_PRIOR = 3.0
"""So many plans were as far off as predicted, before any was measured."""


@dataclass(slots=True)
class Surprise:
    """Root mean square of predictions' errors over their deviations, the older the less."""

    least: float
    """The scale is no smaller."""
    _squares: float = _PRIOR
    _weight: float = _PRIOR

    @property
    def scale(self) -> float:
        """By how much predicted standard deviations are to be multiplied.

        >>> surprise = Surprise(least=1.0)
        >>> for off in (3.0, -3.0, 2.5):
        ...     surprise.note(off)
        >>> round(surprise.scale, 1)
        2.2
        """
        return float(max(self.least, (self._squares / self._weight) ** 0.5))

    def note(self, off: float) -> None:
        """Take in by how many predicted deviations, unscaled, one plan was off."""
        self._squares = _MEMORY * self._squares + off**2
        self._weight = _MEMORY * self._weight + 1.0
