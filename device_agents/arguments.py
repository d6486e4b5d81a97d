"""What a request asks for, checked: a wrong type, range or word is refused before anything starts."""

import math
from typing import Any, Dict, NamedTuple, Optional

from device_agents.errors import AgentError
from device_agents.protocol import BAD_REQUEST

_ENVELOPE = ("v", "id", "verb")
_MAX_THREADS = 1024


class Power(NamedTuple):
    """Which sensor, and its options."""

    backend: str = "null"
    options: Dict[str, Any] = {}

    @property
    def wanted(self) -> bool:
        """Whether power is to be measured at all."""
        return self.backend != "null"


class Measure(NamedTuple):
    """The arguments of ``measure``; times in seconds."""

    candidate: str
    reference: Optional[str] = None
    runtime: str = "onnxruntime"
    threads: int = 1
    warmup_s: float = 0.3
    min_s: float = 1.0
    max_s: float = 10.0
    block_s: float = 0.05
    ci_rel: float = 0.02
    idle_s: float = 5.0
    timeout_s: float = 120.0
    seed: int = 0
    power: Power = Power()


class Verify(NamedTuple):
    """The arguments of ``verify``."""

    candidate: str
    inputs: str
    runtime: str = "onnxruntime"
    threads: int = 1
    timeout_s: float = 120.0


class Hello(NamedTuple):
    """The arguments of ``hello``: the sensor that the caller means to use is checked with its options."""

    power: Power = Power()


class Telemetry(NamedTuple):
    """``telemetry`` takes none."""


def measure(request: Dict[str, Any]) -> Measure:
    """Return the arguments of a ``measure`` request; raise BAD_REQUEST."""
    asked = Measure(**_fields(request, Measure))
    if not 0 < asked.min_s <= asked.max_s:
        raise _bad("min_s", asked.min_s, "a number above 0 and at most max_s (%g)" % asked.max_s)
    return asked


def verify(request: Dict[str, Any]) -> Verify:
    """Return the arguments of a ``verify`` request; raise BAD_REQUEST."""
    return Verify(**_fields(request, Verify))


def hello(request: Dict[str, Any]) -> Hello:
    """Return the arguments of a ``hello`` request; raise BAD_REQUEST."""
    return Hello(**_fields(request, Hello))


def telemetry(request: Dict[str, Any]) -> Telemetry:
    """Return nothing, checked to be nothing; raise BAD_REQUEST."""
    return Telemetry(**_fields(request, Telemetry))


def _fields(request: Dict[str, Any], shape: Any) -> Dict[str, Any]:
    """Return the request's arguments, each checked by the rule of its name."""
    asked = {name: value for name, value in request.items() if name not in _ENVELOPE}
    for name in asked:
        if name not in shape._fields:
            raise AgentError(BAD_REQUEST, "unknown argument %r; known: %s" % (name, ", ".join(shape._fields) or "none"))
    for name in ("candidate", "inputs"):
        if name in shape._fields and name not in asked:
            raise AgentError(BAD_REQUEST, "argument %r is missing" % name)
    return {name: _RULES.get(name, _seconds)(name, value) for name, value in asked.items()}


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _bad(name, value, "a text")
    return value


def _text_or_none(name: str, value: Any) -> Optional[str]:
    return None if value is None else _text(name, value)


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise _bad(name, value, "a number from 0")
    return float(value)


def _above_zero(name: str, value: Any) -> float:
    if _seconds(name, value) == 0:
        raise _bad(name, value, "a number above 0")
    return float(value)


def _threads(name: str, value: Any) -> int:
    if type(value) is not int or not 1 <= value <= _MAX_THREADS:
        raise _bad(name, value, "a whole number from 1 to %d" % _MAX_THREADS)
    return value


def _seed(name: str, value: Any) -> int:
    if type(value) is not int or abs(value) >= 1 << 63:
        raise _bad(name, value, "a whole number of 64 bits")
    return value


def _power(name: str, value: Any) -> Power:
    if value is None:
        return Power()
    if not isinstance(value, dict) or not set(value) <= {"backend", "options"}:
        raise _bad(name, value, '{"backend": name, "options": {...}}')
    options = value.get("options") or {}
    if not isinstance(options, dict):
        raise _bad("options", options, "an object")
    return Power(_text("backend", value.get("backend", "null")), options)


def _bad(name: str, value: Any, expected: str) -> AgentError:
    return AgentError(BAD_REQUEST, "argument %s is %.100r, expected %s" % (name, value, expected))


_RULES: Dict[str, Any] = {
    "candidate": _text,
    "reference": _text_or_none,
    "inputs": _text,
    "runtime": _text,
    "threads": _threads,
    "block_s": _above_zero,
    "timeout_s": _above_zero,
    "seed": _seed,
    "power": _power,
}
"""The rule of each argument that is not simply a number from 0."""
