"""A condition of the data: clean, or a kind of corruption at a severity, written ``fog:3``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.data.conditions.kinds import KINDS
from pipeline.data.conditions.severities import MOST
from pipeline.errors import DataError, nearest


@dataclass(frozen=True, slots=True)
class Condition:
    """How images look: of which kind, and how severely.

    >>> str(Condition("fog", 3)), str(CLEAN)
    ('fog:3', 'clean')
    """

    kind: str
    severity: int
    """1 to 5; 0: clean."""

    def __str__(self) -> str:
        """Return it as it is written."""
        return f"{self.kind}:{self.severity}" if self.severity else self.kind


CLEAN = Condition("clean", 0)


def parse_condition(text: str) -> Condition:
    """Return the condition that ``text`` names: ``clean``, or ``KIND:SEVERITY``.

    >>> parse_condition("fog:3"), parse_condition("clean") == CLEAN
    (Condition(kind='fog', severity=3), True)

    Raises:
        DataError: there is no such kind, or the severity is none of 1 to 5.
    """
    kind, _, severity = text.strip().partition(":")
    if kind == CLEAN.kind and not severity:
        return CLEAN
    if kind not in KINDS:
        known = [CLEAN.kind, *KINDS]
        raise DataError(f"unknown condition {kind!r}{nearest(kind, known)}; there are: {', '.join(known)}")
    if severity not in map(str, range(1, MOST + 1)):
        found = f"found {severity!r}" if severity else "none is given"
        raise DataError(f"condition {kind}: its severity is a number from 1 to {MOST}, {found}; write {kind}:3")
    return Condition(kind, int(severity))


def parse_conditions(texts: Sequence[str]) -> tuple[Condition, ...]:
    """Return the conditions that ``texts`` name, each once.

    Raises:
        DataError: as ``parse_condition``; or one is named twice.
    """
    found = tuple(parse_condition(text) for text in texts)
    if twice := next((one for i, one in enumerate(found) if one in found[:i]), None):
        raise DataError(f"condition {twice} is named twice; name each once")
    return found
