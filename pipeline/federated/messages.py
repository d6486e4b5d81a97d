"""What sites and the server say beside weights: few numbers and names, each checked where it arrives."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline import serialization
from pipeline.federated.structure import Structure, structure_from
from pipeline.printable import printable

PROTOCOL = 1
MOST_ROUNDS = 100_000
MOST_UPDATES = 100_000
"""Gradient steps of a round that a site takes because a server says so."""
MOST_TRIALS = 1_000_000
_SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_IDENTITY = re.compile(r"[0-9a-f]{32}")

Scalars = Mapping[str, Any]
"""Flower's dictionaries: numbers, texts, bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """A site, as it joins."""

    site: str
    identity: str
    """Drawn when its process began; the same after a lost link."""
    trials: int
    """Measured, behind its models."""
    structure: Structure

    def scalars(self) -> dict[str, Any]:
        """Return it as Flower sends it."""
        return {
            "protocol": PROTOCOL, "site": self.site, "identity": self.identity, "trials": self.trials,
            "structure": serialization.to_text(self.structure),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundCall:
    """What the server asks of a site in a round."""

    number: int
    of: int
    updates: int

    def scalars(self) -> dict[str, Any]:
        """Return it as Flower sends it."""
        return {"round": self.number, "rounds": self.of, "updates": self.updates}


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """How a site learnt in a round."""

    loss: float
    """Mean of the second half: smooth L1 of the temporal difference, in units of the reward."""
    updates: int

    def scalars(self) -> dict[str, Any]:
        """Return it as Flower sends it."""
        return {"loss": self.loss, "updates": self.updates}


def site_name(text: str) -> str:
    """Return a site's name.

    Raises:
        ValueError: it is none.

    >>> site_name("plant-2")
    'plant-2'
    """
    if not _SITE.fullmatch(text):
        raise ValueError(f"{text!r}: expected up to 40 letters, digits, dots, dashes and underscores")
    return text


def hello_from(scalars: Scalars) -> Hello:
    """Return what a site said when it joined.

    Raises:
        ValueError: it is not of this protocol, or holds what it must not.
    """
    if scalars.get("protocol") != PROTOCOL:
        raise ValueError(f"it speaks protocol {printable(str(scalars.get('protocol')), 20)}, the server {PROTOCOL}; "
                         "install the same version of this program at all sites")  # fmt: skip
    identity = scalars.get("identity")
    if not isinstance(identity, str) or not _IDENTITY.fullmatch(identity):
        raise ValueError("its identity should be 32 hexadecimal digits")
    return Hello(
        site=site_name(str(scalars.get("site"))[:100]), identity=identity,
        trials=_number(scalars, "trials", MOST_TRIALS), structure=structure_from(scalars.get("structure")),
    )  # fmt: skip


def call_from(scalars: Scalars) -> RoundCall:
    """Return what the server asks.

    Raises:
        ValueError: it asks what it must not.
    """
    return RoundCall(
        number=_number(scalars, "round", MOST_ROUNDS), of=_number(scalars, "rounds", MOST_ROUNDS),
        updates=_number(scalars, "updates", MOST_UPDATES),
    )  # fmt: skip


def learnt_from(scalars: Scalars) -> Learnt:
    """Return how a site says that it learnt.

    Raises:
        ValueError: it says what cannot be.
    """
    loss = scalars.get("loss")
    if not isinstance(loss, float) or not math.isfinite(loss) or loss < 0:
        raise ValueError(f"its loss is {printable(str(loss), 40)}; expected a finite number from 0 on")
    return Learnt(loss=loss, updates=_number(scalars, "updates", MOST_UPDATES))


def _number(scalars: Scalars, name: str, most: int) -> int:
    value = scalars.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"its {name} is {printable(str(value), 40)}; expected a whole number from 0 to {most}")
    return value
