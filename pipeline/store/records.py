"""Records of a run: JSON text by table and key, wherever the tables lie."""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from pipeline import serialization
from pipeline.errors import StoreError
from pipeline.store.facts import Fact

T = TypeVar("T")

Table: TypeAlias = Literal["facts", "measurements", "artifacts"]
"""Whose keys are the user's; a trial's is its number."""
Pairs: TypeAlias = list[tuple[str, str]]
"""Keys and JSON texts."""

MOST_RECORD_CHARACTERS = 4 * 2**20
"""Of a fact, a trial or an artifact; the largest, a search space of 200 groups, has some 100,000."""


class Records(Protocol):
    """An open run's tables; may be used from several threads. Each write is one transaction, kept when it returns."""

    @property
    def where(self) -> str:
        """What is named where something is wrong: the file, or the run and its database."""

    def text(self, table: Table, key: str) -> str | None:
        """Return one record, None where it is absent."""

    def texts(self, table: Literal["trials", "artifacts"]) -> Pairs:
        """Return all: trials by number, artifacts in the order in which they were added."""

    def keys(self, table: Table, beginning: str) -> list[str]:
        """Return the keys that begin so, sorted."""

    def put(self, table: Table, key: str, text: str) -> None:
        """Store a record; replaces the one of the same key, in its place."""

    def append_trial(self, number: int, *, at: str, reward: float | None, feasible: bool, text: str) -> bool:
        """Store a trial, unless one of that number is stored already; return whether it was stored."""

    def remove(self, table: Table, key: str) -> None:
        """Remove a record, where there is one."""

    def remove_all(self, table: Table, beginning: str) -> None:
        """Remove the records whose keys begin so."""


def fact_of(records: Records, fact: Fact[T]) -> T | None:
    """Return a fact, None where it is absent.

    Raises:
        StoreError: what stands there is no JSON, or no such fact.
    """
    return read_fact(fact, records.text("facts", fact.key), records.where)


def read_fact(fact: Fact[T], text: str | None, where: str) -> T | None:
    """Return a fact from its text; raise StoreError, naming ``where`` it stands, if it is none."""
    try:
        plain = None if text is None else record_from(text)
        return None if plain is None else fact.read(plain)
    except ValueError as error:
        raise StoreError(
            f"{where} is damaged: its fact {fact.key!r} cannot be read ({serialization.problem(error)})"
        ) from error


def record_from(text: object) -> Any:
    """Return a record's plain values.

    Raises:
        ValueError: it is no JSON, or longer than any record is.
    """
    if isinstance(text, str) and len(text) > MOST_RECORD_CHARACTERS:
        raise ValueError(f"it has {len(text)} characters, a record has {MOST_RECORD_CHARACTERS} at most")
    return serialization.from_text(text)
