"""What a request asks for, checked: a wrong type, range or word is refused before anything starts."""

import re
import sys
from typing import Any, Dict, List, NamedTuple, Optional

from device_agents.errors import AgentError
from device_agents.protocol import BAD_REQUEST

_ENVELOPE = ("v", "id", "verb")
_REQUIRED = ("candidate", "inputs", "owner", "dir", "pem", "version", "contents", "staged")
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
    options: Dict[str, Any] = {}
    threads: int = 1
    affinity: Optional[List[int]] = None
    spinning: Optional[bool] = None
    warmup_s: float = 0.3
    min_s: float = 1.0
    max_s: float = 10.0
    block_s: float = 0.025
    ci_rel: float = 0.02
    idle_s: float = 5.0
    timeout_s: float = 120.0
    build_timeout_s: float = 1200.0
    memory_share: float = 0.6
    seed: int = 0
    reject_above: Optional[float] = None
    settle_below_c: Optional[float] = None
    settle_s: float = 0.0
    power: Power = Power()

    @property
    def conditions(self) -> Dict[str, Any]:
        """What the runtime's ``load`` is told: its own options, and threads, affinity and spinning beside them."""
        return conditions(self)


class Verify(NamedTuple):
    """The arguments of ``verify``."""

    candidate: str
    inputs: str
    runtime: str = "onnxruntime"
    options: Dict[str, Any] = {}
    threads: int = 1
    affinity: Optional[List[int]] = None
    spinning: Optional[bool] = None
    timeout_s: float = 120.0
    build_timeout_s: float = 1200.0
    memory_share: float = 0.6

    @property
    def conditions(self) -> Dict[str, Any]:
        """See ``Measure.conditions``."""
        return conditions(self)


class Hello(NamedTuple):
    """The arguments of ``hello``: the sensor that the caller means to use is checked with its options."""

    power: Power = Power()


class Telemetry(NamedTuple):
    """``telemetry`` takes none."""


class Hold(NamedTuple):
    """The arguments of ``hold``; ``session`` is the caller's own secret name for a holding that outlives its line."""

    owner: str
    session: str = ""
    wait_s: float = 600.0
    ttl_s: float = 900.0
    modes: Dict[str, Any] = {}


class Release(NamedTuple):
    """``release`` takes none."""


class Meter(NamedTuple):
    """The arguments of ``meter``: ``seconds`` at rest, then as many with ``threads`` busy."""

    power: Power
    seconds: float = 5.0
    threads: int = 1


class Deployment(NamedTuple):
    """The arguments of ``deployment``: the folder of deployed bundles, as of the following; whether to clear it up."""

    dir: str
    tidy: bool = False


class Trust(NamedTuple):
    """The arguments of ``trust``: a public key, to be trusted or no longer."""

    dir: str
    pem: str
    forget: bool = False


class Stage(NamedTuple):
    """The arguments of ``stage``: the manifest's sha256, and the sha256 of every file by its name."""

    dir: str
    version: str
    contents: Dict[str, Any]


class SelfTest(NamedTuple):
    """The arguments of ``self_test``: the name that ``stage`` gave; a runtime, or the model file's own."""

    dir: str
    staged: str
    runtime: str = ""
    timeout_s: float = 120.0


class Offer(NamedTuple):
    """The arguments of ``offer``."""

    dir: str


class Switch(NamedTuple):
    """The arguments of ``switch``: the name that ``stage`` gave, or null for the version before.

    ``vouched``: the caller has checked the signature, for a board that cannot. ``deployed``: when, as the caller says.
    """

    dir: str
    owner: str
    name: Optional[str] = None
    vouched: bool = False
    deployed: str = ""


def deployment(request: Dict[str, Any]) -> Deployment:
    """Return the arguments of a ``deployment`` request; raise BAD_REQUEST."""
    return Deployment(**_fields(request, Deployment))


def trust(request: Dict[str, Any]) -> Trust:
    """Return the arguments of a ``trust`` request; raise BAD_REQUEST."""
    return Trust(**_fields(request, Trust))


def stage(request: Dict[str, Any]) -> Stage:
    """Return the arguments of a ``stage`` request; raise BAD_REQUEST."""
    return Stage(**_fields(request, Stage))


def self_test(request: Dict[str, Any]) -> SelfTest:
    """Return the arguments of a ``self_test`` request; raise BAD_REQUEST."""
    return SelfTest(**_fields(request, SelfTest))


def offer(request: Dict[str, Any]) -> Offer:
    """Return the arguments of an ``offer`` request; raise BAD_REQUEST."""
    return Offer(**_fields(request, Offer))


def switch(request: Dict[str, Any]) -> Switch:
    """Return the arguments of a ``switch`` request; raise BAD_REQUEST."""
    return Switch(**_fields(request, Switch))


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


def hold(request: Dict[str, Any]) -> Hold:
    """Return the arguments of a ``hold`` request; raise BAD_REQUEST."""
    return Hold(**_fields(request, Hold))


def release(request: Dict[str, Any]) -> Release:
    """Return nothing, checked to be nothing; raise BAD_REQUEST."""
    return Release(**_fields(request, Release))


def meter(request: Dict[str, Any]) -> Meter:
    """Return the arguments of a ``meter`` request; raise BAD_REQUEST."""
    return Meter(**_fields(request, Meter))


def conditions(asked: Any) -> Dict[str, Any]:
    """Return what ``load`` of a runtime is told, from the arguments of ``measure`` or ``verify``."""
    names = ("threads", "affinity", "spinning", "build_timeout_s")
    return dict(asked.options, **{name: getattr(asked, name) for name in names})


def _fields(request: Dict[str, Any], shape: Any) -> Dict[str, Any]:
    """Return the request's arguments, each checked by the rule of its name."""
    asked = {name: value for name, value in request.items() if name not in _ENVELOPE}
    for name in asked:
        if name not in shape._fields:
            raise AgentError(BAD_REQUEST, "unknown argument %r; known: %s" % (name, ", ".join(shape._fields) or "none"))
    for name in _REQUIRED:
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
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= sys.float_info.max:
        raise _bad(name, value, "a number from 0")
    return float(value)


def _above_zero(name: str, value: Any) -> float:
    if _seconds(name, value) == 0:
        raise _bad(name, value, "a number above 0")
    return float(value)


def _share(name: str, value: Any) -> float:
    if _seconds(name, value) == 0 or value > 1:
        raise _bad(name, value, "a number above 0 and at most 1")
    return float(value)


def _threads(name: str, value: Any) -> int:
    if type(value) is not int or not 1 <= value <= _MAX_THREADS:
        raise _bad(name, value, "a whole number from 1 to %d" % _MAX_THREADS)
    return value


def _cores(name: str, value: Any) -> Optional[List[int]]:
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(type(core) is int and core >= 0 for core in value):
        raise _bad(name, value, "a list of core numbers, or null")
    return value


def _yes_no_or_none(name: str, value: Any) -> Optional[bool]:
    if value is not None and not isinstance(value, bool):
        raise _bad(name, value, "true, false or null")
    return value


def _number_or_none(name: str, value: Any) -> Optional[float]:
    return None if value is None else _above_zero(name, value)


def _object(name: str, value: Any) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise _bad(name, value, "an object")
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
    return Power(_text("backend", value.get("backend", "null")), _object("options", options))


def _yes_no(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _bad(name, value, "true or false")
    return value


def _sha256(name: str, value: Any) -> str:
    if not isinstance(value, str) or not re.match("[0-9a-f]{64}$", value):
        raise _bad(name, value, "a sha256")
    return value


def _pem(name: str, value: Any) -> str:
    """A public key of at most a few kilobytes, in the letters of PEM."""
    if not isinstance(value, str) or not re.match(r"-----BEGIN PUBLIC KEY-----\n[A-Za-z0-9+/= \n-]{1,4000}$", value):
        raise _bad(name, value, "a public key in PEM")
    return value


def _bad(name: str, value: Any, expected: str) -> AgentError:
    return AgentError(BAD_REQUEST, "argument %s is %.100r, expected %s" % (name, value, expected))


_RULES: Dict[str, Any] = {
    "candidate": _text,
    "reference": _text_or_none,
    "inputs": _text,
    "runtime": _text,
    "options": _object,
    "owner": _text,
    "session": _text,
    "modes": _object,
    "threads": _threads,
    "affinity": _cores,
    "spinning": _yes_no_or_none,
    "reject_above": _number_or_none,
    "settle_below_c": _number_or_none,
    "block_s": _above_zero,
    "timeout_s": _above_zero,
    "build_timeout_s": _above_zero,
    "seconds": _above_zero,
    "memory_share": _share,
    "ttl_s": _above_zero,
    "seed": _seed,
    "power": _power,
    "dir": _text,
    "pem": _pem,
    "forget": _yes_no,
    "tidy": _yes_no,
    "version": _sha256,
    "contents": _object,
    "staged": _text,
    "name": _text_or_none,
    "vouched": _yes_no,
    "deployed": _text,
}
"""The rule of each argument that is not simply a number from 0."""
