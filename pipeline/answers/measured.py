"""The answer to ``measure``: raw samples, of which none may contradict another or what was asked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, PlainValidator, ValidationInfo, WithJsonSchema, model_validator

from pipeline.answers.answer import Answer, Record
from pipeline.answers.board import State
from pipeline.answers.fields import (
    LONGEST_S,
    Celsius,
    Cores,
    Count,
    Floats,
    Megabytes,
    Milliseconds,
    Moments,
    Scalar,
    Seconds,
    Watts,
    Word,
    as_seconds,
    asked,
    asked_s,
    numbers,
)
from pipeline.answers.size_limits import SizeLimits

INFERENCES_A_SECOND = 400_000
"""No runtime answers faster when Python calls it: the call alone takes 2 µs."""
SAMPLES_A_SECOND = 10_000
"""No power sensor of ours gives more."""
LEAST_MS = 1e-6
"""The agent writes nanoseconds."""
_SAMPLE_BYTES = 24
_MOST_BYTES = 64 * 1024 * 1024
_MOST_VALUES = 7_000_000
_MOST_BLOCKS = 1_000_000
_SLACK_S = 30.0
"""On the way from the request to the reply, beyond the limits that the agent keeps to itself."""
_CLOCK_S = 1e-5
"""Two readings of one clock, written and read again."""
_FIT = 1.01
"""Inferences fill their block at most so far: they are timed by another of the board's clocks than the block."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive runs of one model: when they began and ended, and how long each took."""

    start_s: float
    end_s: float
    ms: Floats


def _blocks(value: object, info: ValidationInfo) -> tuple[Block, ...]:
    """Return the blocks that hold samples; all their values are looked at together, which takes 30 ns each."""
    if not isinstance(value, list) or not value:
        raise ValueError("holds no latency samples: expected a list of blocks")
    if len(value) > (most := most_blocks(info.context)):
        raise ValueError(f"holds {len(value)} blocks, at most {most} were asked for")
    rows = [_row(block) for block in value]
    starts, ends = (numbers([row[i] for row in rows], 0, LONGEST_S) for i in (0, 1))
    flat = numbers(list(itertools.chain.from_iterable(row[2] for row in rows)), -LONGEST_S, LONGEST_S)
    counts = np.array([len(row[2]) for row in rows])
    kept = counts > 0
    starts, ends, counts = starts[kept], ends[kept], counts[kept]
    if not len(counts):
        raise ValueError("holds no latency samples")
    edges = np.concatenate(([0], np.cumsum(counts)))
    _require_true(starts, ends, np.add.reduceat(flat, edges[:-1]), flat)
    parts = [flat[a:b] for a, b in itertools.pairwise(edges.tolist())]
    return tuple(map(Block, starts.tolist(), ends.tolist(), parts))


def _row(block: object) -> tuple[object, object, Sequence[Any]]:
    if not isinstance(block, dict):
        raise ValueError("holds a block that is no object")
    start_s, end_s, ms = (block.get(name) for name in ("start_s", "end_s", "ms"))
    if not isinstance(ms, list):
        raise ValueError("holds a block without its list of ms")
    return start_s, end_s, ms


def _require_true(starts: Floats, ends: Floats, sums_ms: Floats, ms: Floats) -> None:
    if not (ends > starts).all() or not (ms >= LEAST_MS).all():
        raise ValueError("holds a block without duration, or an inference without")
    if (late := sums_ms > (ends - starts) * 1e3 * _FIT + 0.1).any():
        at = int(late.argmax())
        raise ValueError(
            f"holds {sums_ms[at]:.6g} ms of inferences in a block of {(ends[at] - starts[at]) * 1e3:.6g} ms"
        )


def _window(value: object) -> tuple[float, float]:
    start_s, end_s = (float(edge) for edge in numbers(value, 0, LONGEST_S)) if _is_pair(value) else (0.0, 0.0)
    if start_s >= end_s:
        raise ValueError("holds a window that is no pair of times, the earlier one first")
    return start_s, end_s


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2


_TIME = {"type": "number", "minimum": 0, "maximum": LONGEST_S}
_SAMPLES = {"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}}
_BLOCK = {"type": "object", "properties": {"start_s": _TIME, "end_s": _TIME, "ms": _SAMPLES},
          "required": ["start_s", "end_s", "ms"]}  # fmt: skip
Blocks = Annotated[tuple[Block, ...], PlainValidator(_blocks), WithJsonSchema({"type": "array", "items": _BLOCK})]
Window = Annotated[
    tuple[float, float],
    PlainValidator(_window),
    WithJsonSchema({"type": "array", "items": _TIME, "minItems": 2, "maxItems": 2}),
]


class Model(Record):
    """One model's part of a measurement."""

    blocks: Blocks
    load_ms: Milliseconds | None = None

    @property
    def windows(self) -> Floats:
        """When its blocks began and ended, float64[blocks, 2]."""
        return np.array([(block.start_s, block.end_s) for block in self.blocks], dtype=np.float64)


class Settled(Record):
    """How the board cooled down before."""

    temperature_c: Celsius | None = None
    waited_s: Seconds = 0.0
    reached: bool | None = None


class Powered(Record):
    """What the power sensor gave meanwhile."""

    source: Word
    scope: Literal["module", "board", "package"]
    estimated: bool = False
    interval_s: float | None = Field(default=None, ge=0, le=3600)
    t_s: Moments
    w: Watts
    dropped: Count = 0
    """Readings that could not be true."""

    @model_validator(mode="after")
    def _in_order(self, info: ValidationInfo) -> Self:
        require_in_order(self.t_s, len(self.w))
        if len(self.t_s) > (most := most_power_samples(info.context)):
            raise ValueError(f"holds {len(self.t_s)} values, at most {most} can have come in the time")
        return self


class Measured(Answer):
    """Raw samples of the candidate, and of the reference in turns with it."""

    verb: ClassVar[str] = "measure"
    concerns_candidate: ClassVar[bool] = True

    candidate: Model
    reference: Model | None = None
    idle: list[Window] = Field(default=[], max_length=16)
    settled: Settled | None = None
    early: bool = False
    power: Powered | None = None
    before: State
    during: list[State] | None = Field(default=None, max_length=100_000)
    after: State
    wall_s: Seconds | None = None
    own_cpu_s: Seconds | None = None
    cores: Cores | None = None
    peak_rss_mb: Megabytes | None = None
    runtime: Word = ""
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    conditions: dict[Word, Scalar | list[Scalar]] | None = Field(default=None, max_length=64)

    @classmethod
    def size_limits(cls, asked: Mapping[str, Any]) -> SizeLimits:
        """See ``Answer.size_limits``."""
        blocks = 2 * most_blocks(asked)
        runs = math.ceil(INFERENCES_A_SECOND * (as_seconds(asked, "max_s") or LONGEST_S))
        samples = 2 * most_power_samples(asked) if _wants_power(asked.get("power")) else 0
        values = min(_MOST_VALUES, 4000 + runs + samples + 3 * blocks)
        size = min(_MOST_BYTES, 256 * 1024 + values * _SAMPLE_BYTES)
        return SizeLimits(size=size, values=values, containers=4000 + 2 * blocks)

    @model_validator(mode="after")
    def _possible(self, info: ValidationInfo) -> Self:
        models = [self.candidate, *([self.reference] if self.reference else [])]
        for model in models:
            _require_apart(model.windows, "blocks of one model")
        absent = [self.wall_s is None, self.own_cpu_s is None, self.cores is None]
        if any(absent) != all(absent):
            raise ValueError("wall_s, own_cpu_s and cores come all three or not at all")
        windows = np.concatenate([model.windows for model in models])
        _require_apart(windows[windows[:, 0].argsort(kind="stable")], "blocks of candidate and reference")
        _require_apart(np.array(self.idle, dtype=np.float64).reshape(-1, 2), "idle windows")
        span_s, limit_s = float(windows.max() - windows.min()), asked_s(info, "timeout_s")
        if limit_s is not None and span_s > limit_s + _SLACK_S:
            raise ValueError(f"the blocks span {span_s:.6g} s, {limit_s:g} s were allowed")
        if isinstance(info.context, Mapping):
            self._require_asked_for(info)
        return self

    def _require_asked_for(self, info: ValidationInfo) -> None:
        """Hold what came against what was asked."""
        wants = {"reference": asked(info, "reference") is not None, "power": _wants_power(asked(info, "power"))}
        for name, wanted in wants.items():
            there = getattr(self, name)
            if wanted != (there is not None):
                raise ValueError(f"{name} is {'missing' if wanted else 'there, and was not requested'}")
        threads = asked(info, "threads")
        if threads is not None and threads != self.threads:
            raise ValueError(f"measured with {self.threads} threads, {threads} were asked for")
        if self.early and asked(info, "reject_above") is None:
            raise ValueError("stopped early, and that was not requested")


def require_in_order(t_s: Floats, values: int) -> None:
    """Look at samples.

    Raises:
        ValueError: time stands still or runs backwards in them, or there are more or fewer values than times.
    """
    if len(t_s) != values or (np.diff(t_s) <= 0).any():
        raise ValueError("samples are not in the order of time, or not one a time")


def most_blocks(asked: object) -> int:
    """Return how many blocks of one model may come: each lasts ``block_s``, and after ``max_s`` none begins."""
    context = asked if isinstance(asked, Mapping) else {}
    max_s, block_s = as_seconds(context, "max_s"), as_seconds(context, "block_s")
    if not max_s or not block_s:
        return _MOST_BLOCKS
    return min(_MOST_BLOCKS, math.ceil(max_s / block_s) + 2)


def most_power_samples(asked: object) -> int:
    """Return how many power samples may come: the sensor runs for as long as the worker and the idle windows."""
    context = asked if isinstance(asked, Mapping) else {}
    times = [as_seconds(context, name) for name in ("timeout_s", "idle_s", "settle_s")]
    if times[0] is None:
        return _MOST_VALUES
    return min(_MOST_VALUES, math.ceil(SAMPLES_A_SECOND * (sum(time or 0.0 for time in times) + _SLACK_S)))


def _wants_power(power: object) -> bool:
    return isinstance(power, Mapping) and power.get("backend", "null") != "null"


def _require_apart(windows: Floats, what: str) -> None:
    """Look at windows, float64[n, 2]: each begins after the one before it ended."""
    if (windows[1:, 0] < windows[:-1, 1] - _CLOCK_S).any():
        raise ValueError(f"{what} overlap, or are not in the order of time")
