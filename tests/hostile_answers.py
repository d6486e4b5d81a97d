"""A hostile board's answers: what an honest agent would say, or what only fits the schema, then spoilt.

``answers()`` draws what arrives for one request, byte for byte; ``Scripted`` is the way to an agent that says just
that; ``ask`` asks it, uses the answer as the commands do, and returns what came of it.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from pipeline.answers import ANSWERS
from pipeline.devices.sessions.agent_zipapp import zipapp
from pipeline.devices.sessions.line_protocol import Conversation
from pipeline.records import Device, LockSettings, MeasureSettings, PowerSettings, SshAddress

SETTINGS = MeasureSettings(
    warmup_s=0.0, min_s=0.5, max_s=4.0, block_s=1.0, idle_s=1.0, timeout_s=20.0, max_background_cores=64.0
)
BOARD = Device(
    name="board", kind="linux", ssh=SshAddress(host="192.0.2.1", retries=0), runtime="null", measure=SETTINGS,
    modes={"governor": "performance"}, power=PowerSettings(backend="ina219"), lock=LockSettings(wait_s=1.0),
    user_groups=("video",),
)  # fmt: skip
VERBS = ("hello", "hold", "telemetry", "meter", "measure", "verify")
IMAGES = np.zeros((3, 4), np.float32)


class Raw(str):
    """JSON text that stands in a message as it is."""

    __slots__ = ()


def encoded(value: object) -> bytes:
    """Return JSON, or what looks like it: ``Raw`` as it is, keys twice where a pair of values wants that."""
    if isinstance(value, Raw):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, dict):
        pairs = [json.dumps(str(key)).encode() + b":" + encoded(item) for key, item in value.items()]
        return b"{" + b",".join(pairs) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(encoded, value)) + b"]"
    return json.dumps(value).encode()


# ---------------------------------------------------------------- an honest agent


STATE = {
    "temperature_c": 50.0, "clock_mhz": 1500.0, "governor": "performance", "load": 0.5, "cpu_busy_s": 100.0,
    "cpu_steal_s": 0.0, "memory_free_mb": 900.0, "disk_free_mb": 9000.0, "throttled": "0x0",
}  # fmt: skip


def honest(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result that a good board gives."""
    return copy.deepcopy(_HONEST[request["verb"]](request))


def _hello(_: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "agent_sha256": zipapp().sha256, "python": "3.9.2", "machine": "aarch64", "board": "Raspberry Pi 4 Model B",
        "kernel": "6.1", "cpu": "Cortex-A72", "cores": 4, "simd": "neon", "memory_mb": 4000.0, "disk_free_mb": 9000.0,
        "runtimes": {"null": "1.0", "onnxruntime": "1.19.2"}, "sensors": {"ina219": "ok", "null": "ok"},
        "governor": "ondemand", "clock_mhz": 1500.0, "temperature_c": 50.0, "throttled": "0x0", "user": "ann",
        "groups": ["ann"], "holder": None, "governors": "ondemand,performance", "helper": None,
        "system": "Debian GNU/Linux 12", "libc": "glibc 2.36", "l4t": None, "swap_mb": 100.0, "vnni": None,
    }  # fmt: skip


def _hold(request: Mapping[str, Any]) -> dict[str, Any]:
    return {"applied": dict(request["modes"]), "refused": {}}


def _meter(request: Mapping[str, Any]) -> dict[str, Any]:
    def phase(start_s: float, watts: float) -> dict[str, Any]:
        t_s = [start_s + 0.05 * i for i in range(1, 20)]
        return {"start_s": start_s, "end_s": start_s + 1.0, "t_s": t_s, "w": [watts + 0.01 * (i % 3) for i in
                range(19)], "v": [5.1] * 19}  # fmt: skip

    about = {"source": "ina219", "scope": "board", "interval_s": 0.02, "estimated": False}
    return {"about": about, "rest": phase(10.0, 2.0), "load": phase(12.0, 4.0), "threads": request["threads"],
            "before": STATE, "during": STATE, "after": STATE}  # fmt: skip


def _measure(request: Mapping[str, Any]) -> dict[str, Any]:
    def model(offset_s: float, ms: float) -> dict[str, Any]:
        starts = [10.0 + offset_s + 2.2 * i for i in range(2)]
        return {"load_ms": 12.0, "input": {"name": "x", "shape": [1, 3], "dtype": "float32"},
                "blocks": [{"start_s": s, "end_s": s + 1.0, "ms": [ms] * int(990 / ms)} for s in starts]}  # fmt: skip

    t_s = [4.0 + 0.1 * i for i in range(160)]
    return {
        "candidate": model(0.0, 20.0), "reference": model(1.1, 40.0) if request.get("reference") else None,
        "idle": [[5.0, 9.0], [16.0, 18.0]], "settled": {"temperature_c": 50.0, "waited_s": 0.0, "reached": None},
        "early": False, "power": {"source": "ina219", "scope": "board", "interval_s": 0.02, "estimated": False,
        "t_s": t_s, "w": [2.0 + 0.01 * (i % 7) for i in range(160)]}, "before": STATE, "during": [STATE] * 3,
        "after": STATE, "wall_s": 5.0, "own_cpu_s": 4.0, "cores": 4, "peak_rss_mb": 80.0, "runtime": "null 1.0",
        "threads": request["threads"], "conditions": {"affinity": None, "spinning": None, "precision": "fp32"},
    }  # fmt: skip


def _verify(_: Mapping[str, Any]) -> dict[str, Any]:
    import base64

    return {"outputs": base64.b64encode(np.ones((3, 5), "<f4").tobytes()).decode(), "shape": [3, 5]}


_HONEST: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "hello": _hello, "hold": _hold, "telemetry": lambda _: STATE, "meter": _meter, "measure": _measure,
    "verify": _verify,
}  # fmt: skip


# ---------------------------------------------------------------- what fits the schema


def from_schema(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Return values that a JSON schema of pydantic's allows."""
    if "$ref" in schema:
        return from_schema(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return st.one_of([from_schema(part, definitions) for part in schema["anyOf"]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "object" if "properties" in schema:
            wanted = {name: from_schema(part, definitions) for name, part in schema["properties"].items()}
            required = set(schema.get("required", ()))
            return st.fixed_dictionaries(
                {name: part for name, part in wanted.items() if name in required},
                optional={name: part for name, part in wanted.items() if name not in required},
            )
        case "object":
            values = from_schema(schema.get("additionalProperties", {}), definitions)
            return st.dictionaries(st.text(max_size=8), values, max_size=3)
        case "array":
            items = from_schema(schema.get("items", {}), definitions)
            return st.lists(items, min_size=schema.get("minItems", 0), max_size=min(schema.get("maxItems", 4), 4))
        case "number":
            low, high = _range(schema, 1e12)
            return st.floats(low, high, exclude_min="exclusiveMinimum" in schema)
        case "integer":
            low, high = _range(schema, 2**40)
            return st.integers(math.ceil(low), math.floor(high))
        case "string" if "pattern" in schema:
            return st.from_regex(schema["pattern"])
        case "string":
            return st.text(max_size=12)
        case "boolean":
            return st.booleans()
        case _:
            return st.none()


def _range(schema: Mapping[str, Any], most: float) -> tuple[float, float]:
    low = schema.get("minimum", schema.get("exclusiveMinimum", -most))
    return float(max(low, -most)), float(min(schema.get("maximum", most), most))


def _fitting(verb: str) -> st.SearchStrategy[Any]:
    (kind,) = [kind for kind in ANSWERS if kind.verb == verb]
    schema = kind.model_json_schema()
    return from_schema(schema, schema.get("$defs", {}))


FITTING = {verb: _fitting(verb) for verb in VERBS}


# ---------------------------------------------------------------- spoilt


NASTY_TEXT = (
    "", "x", "5", "\x1b[31mred\x1b[0m", "\x1b]8;;http://evil\x07here\x1b]8;;\x07", "\x9b2J\x85", "\u202egnp.exe",
    "a\r\nb\rc", "[red]", "[/]", "[bold", "${IFS}", "$(reboot)", "'; reboot; '", "ann ALL", "ALL", "\u2028", "\x00",
    "<script>alert(1)</script>", "| a | `b`", "ü" * 300, "%s%n", "0x" + "f" * 400, "../../etc/passwd", "🧨" * 50,
)  # fmt: skip
HUGE = (
    Raw("9" * 5000), Raw("-" + "9" * 4200), Raw("1" + "0" * 4200), Raw("1e308"), Raw("-1e308"), Raw("1e999"),
    Raw("NaN"), Raw("-Infinity"), Raw("0." + "3" * 9000), Raw("1e-320"), Raw("[" * 5000 + "]" * 5000),
    Raw('{"a":' * 3000 + "1" + "}" * 3000), Raw("[" * 900 + "]" * 900), Raw('"\\ud800"'), Raw('"\\udfff\\ud800"'),
    Raw('"' + "A" * 10_000_000 + '"'),
    Raw("[" + "[]," * 400_000 + "[]]"), Raw("[" + "1," * 400_000 + "1]"), Raw('{"a":1,"a":[]}'), Raw('"\xff\x01"'),
    Raw("0x10"), Raw("01"), Raw("tru"), Raw("-"), Raw('{"blocks":[],"blocks":{}}'),
)  # fmt: skip
NUMBERS = (0, -1, 1, 2, -5.0, 0.5, 1e-9, 3.7, 1000, 10**6, 2**31, 2**63, 10**30, 1e18, 5e307, -(2**63))
NASTY = (
    st.sampled_from(NUMBERS) | st.sampled_from(NASTY_TEXT) | st.sampled_from(HUGE) | st.none() | st.booleans()
    | st.sampled_from([[], {}, [[]], [None], [[1, 2], [3]], {"a": {}}, {"": None}, [1] * 1000]) | st.text(max_size=20)
).map(copy.deepcopy)  # fmt: skip


@st.composite
def spoilt(draw: st.DrawFn, whole: Any) -> Any:
    """Return a value with something changed in one to four places."""
    for _ in range(draw(st.integers(1, 4))):
        whole = _changed(draw, whole)
    return whole


def _changed(draw: st.DrawFn, value: Any) -> Any:
    """Go down some way, and change what is there."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 4)):
        keys = list(value) if isinstance(value, dict) else list(range(min(len(value), 6)))
        key = draw(st.sampled_from(keys))
        value[key] = _changed(draw, value[key])
        return value
    return _CHANGES[draw(st.integers(0, len(_CHANGES) - 1))](draw, value)


def _without_some(draw: st.DrawFn, value: Any) -> Any:
    if not isinstance(value, dict | list) or not value:
        return draw(NASTY)
    key = draw(st.sampled_from(list(value) if isinstance(value, dict) else range(min(len(value), 9))))
    del value[key]
    return value


def _with_more(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, dict):
        return {**value, draw(st.sampled_from(NASTY_TEXT) | st.text(max_size=9)): draw(NASTY)}
    return [*value, draw(NASTY)] if isinstance(value, list) else [value]


def _in_another_order(draw: st.DrawFn, value: Any) -> Any:
    if not isinstance(value, list) or len(value) < 2:
        return {"value": value}
    return value[::-1] if draw(st.booleans()) else [value[-1], *value[:-1]]


_MOST_BYTES = 2_000_000
"""What is repeated is no longer: else making it would take the seconds and the memory that are to be counted."""


def _repeated(draw: st.DrawFn, value: Any) -> Any:
    most = 1 + _MOST_BYTES // (1 + len(encoded(value)))
    times = min(draw(st.sampled_from([2, 3, 100, 3000])), most)
    copies = [copy.deepcopy(value) for _ in range(times)]  # not one value many times: a later change is of one place
    return [item for copied in copies for item in copied] if isinstance(value, list) else copies


def _scaled(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return draw(NASTY)
    return value * draw(st.sampled_from([-1, 0, 1e-6, 0.5, 1.5, 10, 1e6, 1e300]))


_CHANGES: tuple[Callable[[st.DrawFn, Any], Any], ...] = (
    lambda draw, _: draw(NASTY), lambda draw, _: draw(NASTY), _without_some, _with_more, _in_another_order, _repeated,
    _scaled,
)  # fmt: skip


# ---------------------------------------------------------------- what arrives


@dataclass(frozen=True)
class Hostile:
    """What arrives for one request of a verb, after honest answers to all requests before."""

    verb: str
    result: Any
    envelope: Callable[[dict[str, Any]], Any]
    wire: Callable[[bytes], bytes]
    words: str

    def says(self, request: Mapping[str, Any]) -> bytes:
        """Return the bytes."""
        message = {"v": 2, "id": request["id"], "ok": True, "result": self.result}
        return self.wire(encoded(self.envelope(message)) + b"\n")


def _event(text: Any, temperature: Any = 50.0) -> bytes:
    return (
        encoded({"v": 2, "id": 1, "event": "progress", "stage": text, "seconds": 1.0, "temperature_c": temperature})
        + b"\n"
    )


WIRES: Mapping[str, Callable[[bytes], bytes]] = {
    "cut in half": lambda line: line[: len(line) // 2] + b"\n",
    "cut off": lambda line: line[:-5],
    "without its end": lambda line: line[:-1],
    "twice": lambda line: line * 2,
    "after noise": lambda line: b"\x1b[2J\x00\xff motd\n" * 500 + line,
    "after endless noise": lambda line: b"noise\n" * 5000 + line,
    "after foreign ids": lambda line: b'{"v":2,"id":99,"ok":true,"result":{}}\n' * 5000 + line,
    "after others' ids": lambda line: b'{"v":2,"id":0,"ok":true,"result":{}}\n' * 3000 + line,
    "after events": lambda line: _event("x", 50.0) * 3000 + line,
    "after a strange event": lambda line: _event("[red]\x1b[31m", Raw("NaN")) + line,
    "after an event of nothing": lambda line: b'{"v":2,"event":null}\n' + line,
    "after a waiting of nothing": lambda line: b'{"v":2,"event":"waiting","holder":{"words":[1]}}\n' + line,
    "after a waiting of evil": lambda line: b'{"v":2,"event":"waiting","holder":{"owner":"a","pid":1,"age_s":1,'
    b'"expires_s":null,"words":"[/red] \\u001b[2J"}}\n' + line,
    "with a byte changed": lambda line: line[: len(line) // 3] + b"\xc3\x28" + line[len(line) // 3 + 2 :],
    "binary": lambda _: bytes(range(256)) * 40 + b"\n",
    "binary in braces": lambda _: b"{" + bytes(i for i in range(256) if i != 10) * 40 + b"\n",
    "in another coding": lambda line: line.decode("utf-8", "replace").encode("utf-16") + b"\n",
    "after a mark of byte order": lambda line: b"\xef\xbb\xbf" + line,
    "with carriage returns": lambda line: line.replace(b",", b",\r") ,
    "in blanks": lambda line: b" " * 100_000 + line,
    "without a newline, long": lambda _: b"{" + b"a" * 5_000_000,
    "nothing": lambda _: b"",
    "an empty object": lambda _: b"{}\n",
}  # fmt: skip


@st.composite
def answers(draw: st.DrawFn, verbs: tuple[str, ...] = VERBS) -> Hostile:
    """Draw what a hostile board says."""
    verb = draw(st.sampled_from(verbs))
    kind = draw(st.sampled_from(["spoilt", "spoilt", "spoilt", "fitting", "fitting and spoilt", "honest"]))
    result = draw(FITTING[verb]) if kind.startswith("fitting") else plain(verb).result
    if kind.endswith("spoilt"):
        result = draw(spoilt(result))
    envelope: Callable[[dict[str, Any]], Any] = lambda message: message  # noqa: E731 - one of two
    wire: Callable[[bytes], bytes] = lambda line: line  # noqa: E731 - one of many
    how = draw(st.integers(0, 9))
    if how == 0:
        envelope = _envelope(draw)
    elif how == 1 or kind == "honest":
        name = draw(st.sampled_from(sorted(WIRES)))
        wire, kind = WIRES[name], f"{kind}, {name}"
    ready = Raw(encoded(result).decode("utf-8", "surrogatepass"))  # now, so that it is not the host that takes the time
    return Hostile(verb, ready, envelope, wire, f"{verb}: {kind}, {len(ready):,} characters")


KINDS = ("crashed", "timeout", "refused", "invalid", "held", "corrupt", "disk_full", "internal", "", "?")


def plain(verb: str, wire: Callable[[bytes], bytes] = lambda line: line) -> Hostile:
    """Return what an honest board says to a request that ``ask`` makes."""
    request = {"verb": verb, "modes": BOARD.modes, "threads": 4 if verb == "meter" else 1, "reference": "x"}
    return Hostile(verb, honest(request), lambda message: message, wire, f"{verb}: honest")


def _envelope(draw: st.DrawFn) -> Callable[[dict[str, Any]], Any]:
    if draw(st.booleans()):
        error = draw(
            st.fixed_dictionaries(
                {"kind": st.sampled_from(KINDS) | NASTY,
                 "message": st.sampled_from(NASTY_TEXT) | NASTY}
            ) | NASTY
        )  # fmt: skip
        return lambda message: {"v": 2, "id": message["id"], "ok": False, "error": error}
    field, value = draw(st.sampled_from(["v", "id", "ok", "result", "error", "event"])), draw(NASTY)
    return lambda message: {**message, field: value}


class Scripted:
    """The way to an agent whose words are known: honest until the verb in question is asked."""

    def __init__(self, said: Hostile, times: int = 1 << 30) -> None:
        self._said = said
        self._left = times
        self._waiting = bytearray()
        self._talk = Conversation("board", self._send, self._receive, lambda: "")

    def put(self, source: bytes | Path, _: str) -> int:
        return len(source) if isinstance(source, bytes) else 0

    def exchange(self, line: bytes, deadline_s: float, *more: Any) -> None:
        self._talk.exchange(line, deadline_s, *more)

    def close(self) -> None:
        self._waiting.clear()

    def _send(self, line: bytes, *_: float) -> None:
        request = json.loads(line)
        if request["verb"] == self._said.verb and self._left:
            self._left -= 1
            self._waiting += self._said.says(request)
        else:
            message = {"v": 2, "id": request["id"], "ok": True, "result": honest(request)}
            self._waiting += encoded(message) + b"\n"

    def _receive(self, _: float) -> bytes:
        """Return what is there, then the end of the stream."""
        chunk = bytes(self._waiting[: 1 << 16])
        del self._waiting[: 1 << 16]
        return chunk


def quiet(device: Device) -> Device:
    """Return the device without its sensor."""
    return replace(device, power=PowerSettings())


# ---------------------------------------------------------------- asked, and the answer used


def ask(said: Hostile) -> list[str]:
    """Ask, and use the answer as the commands do; return every text that was made of it.

    Raises:
        PipelineError: as the commands show it in one line.
    """
    from pipeline import serialization
    from pipeline.devices.agent_client import open_agent
    from pipeline.devices.diagnostics import doctor
    from pipeline.devices.diagnostics.check import findings_with_agent
    from pipeline.devices.diagnostics.requirements import missing_requirements, script

    events: list[Mapping[str, Any]] = []
    with open_agent(BOARD, on_event=events.append, opening=lambda *_: Scripted(said)) as agent:
        if said.verb == "measure":
            measured = agent.measure(b"{}", reference=(b"[]", "onnx"), reject_above=2.0)
            return [serialization.to_text(measured), rendered(measured), str(events)]
        if said.verb == "verify":
            return [str(agent.verify(b"{}", IMAGES).argmax(1))]
        findings = findings_with_agent(agent)
        if said.verb == "hello":
            findings += [doctor.Finding(fix.title, True, fix.afterwards) for fix in missing_requirements(agent)]
            return [*map(str, findings), script(missing_requirements(agent), BOARD), serialization.to_text(agent.facts)]
        with_words = findings + doctor.diagnosis(doctor.observe(agent, 1.0, quiet_s=0.0))
        return [finding.detail + finding.fix + finding.name for finding in with_words]


def rendered(measured: Any) -> str:
    """Return a measurement as `pipeline profile` prints it."""
    import io

    from rich.console import Console

    from pipeline.cli.commands.profile import table

    file = io.StringIO()
    Console(file=file, width=200, markup=False, emoji=False).print(table(Path("model.onnx"), "board", measured))
    return file.getvalue()


def steers(text: str) -> bool:
    """Whether a text holds what would steer a terminal or turn its direction."""
    return any(not character.isprintable() and character not in "\n" for character in text)
