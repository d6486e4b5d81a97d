"""An agent's answer as a frozen record, validated against the request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from pipeline.answers.size_limits import SMALL, SizeLimits
from pipeline.printable import printable


class Record(BaseModel):
    """Part of an answer; keys that it does not know are left out, as another version of the agent may send more."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="ignore", allow_inf_nan=False, arbitrary_types_allowed=True
    )


class Answer(Record):
    """The result of one verb."""

    verb: ClassVar[str]
    concerns_candidate: ClassVar[bool] = False
    """An answer that cannot be true is one candidate's failure, not the board's."""

    @classmethod
    def size_limits(cls, asked: Mapping[str, Any]) -> SizeLimits:
        """Return how large the answer to a request may be, from its arguments."""
        del asked
        return SMALL

    @classmethod
    def of(cls, result: object, asked: Mapping[str, Any] | None = None) -> Self:
        """Return the validated answer.

        Args:
            result: what arrived, as plain JSON values.
            asked: the request's arguments, which bound it; None: they are not known.

        Raises:
            ValueError: it is no such answer, or its figures cannot be true; says which and why.
        """
        try:
            return cls.model_validate(result, context=asked)
        except ValidationError as error:
            raise ValueError(f"the reply to {cls.verb} makes no sense: {in_words(error)}") from None


def in_words(error: ValidationError) -> str:
    """Return where an answer is wrong, what would be right and what was found, in at most three places."""
    found = error.errors(include_url=False)
    more = [f"and {len(found) - 3} more"] * (len(found) > 3)
    return "; ".join([_in_words(one) for one in found[:3]] + more)


def _in_words(one: ErrorDetails) -> str:
    place = printable(_place(one["loc"]), 100)
    problem = one["msg"].removeprefix("Value error, ")
    problem = problem[:1].lower() + problem[1:]
    if one["type"] == "missing":
        return f"it lacks what it should hold: {place}"
    if one["type"] == "value_error":  # ours, which say what they found
        return f"{place}: {problem}" if place else problem
    return f"{place or 'the whole'}: {printable(problem, 200)}, found {shown(one['input'])}"


def _place(parts: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in parts)


def shown(value: object) -> str:
    """Return a value as a message shows it, whatever it is and however large.

    >>> shown(10**400), shown("x" * 10**6)[:8], shown([1, 2]), shown({})
    ('a whole number of 1329 bits', "'xxxxxxx", 'a list of 2', 'an object')
    """
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    if type(value) is int and value.bit_length() > 128:
        return f"a whole number of {value.bit_length()} bits"
    return repr(printable(value, 60)) if isinstance(value, str) else printable(repr(value), 60)
