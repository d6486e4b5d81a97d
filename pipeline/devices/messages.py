"""Messages of the wire: JSON lines of bounded size and known shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, TypeAdapter, ValidationError
from pydantic_core import from_json

from device_agents import protocol
from pipeline.answers import Progress, SizeLimits, Waiting, shown
from pipeline.answers.answer import Record, in_words
from pipeline.answers.fields import Text, Word

MOST_MESSAGE = 3500


@dataclass(frozen=True, slots=True)
class Success:
    """A reply; what is in its result is for the verb's schema to say."""

    id: int
    result: Any


class Failed(Record):
    """What the agent could not do, and why."""

    kind: Word
    message: Annotated[Text, BeforeValidator(lambda text: text[:MOST_MESSAGE] if isinstance(text, str) else text)]


@dataclass(frozen=True, slots=True)
class Failure:
    """A reply that says why there is no result; without an id where the agent could not read the request."""

    id: int | None
    error: Failed


Event = Progress | Waiting
Message = Success | Failure | Event
_EVENT: TypeAdapter[Event] = TypeAdapter(Progress | Waiting)


class NoMessageError(ValueError):
    """The line is no message, or larger than any that was asked for."""


class OtherVersionError(NoMessageError):
    """The message is of another version of the protocol: the agent is another than ours."""


def decoded(line: bytes, limits: SizeLimits) -> Message:
    """Return the message in a line.

    Raises:
        NoMessageError: it is none, of another version, or larger than ``limits``; says why.
    """
    try:
        limits.check(line)
    except ValueError as error:
        raise NoMessageError(str(error)) from None
    try:
        plain = from_json(line, allow_inf_nan=False)
    except ValueError as error:
        raise NoMessageError(f"{error}: {line[:80]!r}") from None
    if not isinstance(plain, dict) or "v" not in plain:
        raise NoMessageError(f"no message: {line[:80]!r}")
    if type(plain["v"]) is not int or plain["v"] != protocol.VERSION:
        raise OtherVersionError(f"version {shown(plain['v'])}, expected {protocol.VERSION}")
    return _event(plain) if "event" in plain else _reply(plain)


def _event(plain: dict[str, Any]) -> Event:
    try:
        return _EVENT.validate_python(plain)
    except ValidationError as error:
        raise NoMessageError(f"an event that makes no sense: {in_words(error)}") from None


def _reply(plain: dict[str, Any]) -> Success | Failure:
    number, ok = plain.get("id"), plain.get("ok")
    if type(number) is not int and not (number is None and ok is False):
        raise NoMessageError(f"a reply without its number: id is {shown(number)}")
    if ok is True and type(number) is int and "result" in plain:
        return Success(number, plain["result"])
    if ok is not False:
        raise NoMessageError(f"a reply that neither holds a result nor says why not: ok is {shown(ok)}")
    try:
        return Failure(number, Failed.model_validate(plain.get("error")))
    except ValidationError as error:
        raise NoMessageError(f"a failure that makes no sense: {in_words(error)}") from None
