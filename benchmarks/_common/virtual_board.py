"""A board in virtual time: its speed is drawn from a model, and the pipeline's own agent measures it.

``Board.opening`` is the way to it (see ``open_agent``). Each request ``measure`` runs ``device_agents.measure`` as it
is; only the clock that it reads, the board's telemetry and the runtime that it times are virtual. A model file is JSON
that says how long an undisturbed inference takes; see ``model_file``.

What slows an inference down, beside the time that it takes on an undisturbed board:

process   log-normal, drawn for each process and model; ``between`` is the standard deviation of two models' *ratio*
own       an Ornstein-Uhlenbeck process in time for each model, which knows of no blocks; ``correlation_s`` says how it
          maps to the lag-1 correlation ``phi`` of blocks of 50 ms
common    another, slow one, which both models share
bursts    of neighbours: 50 to 300 ms in which everything takes 10 to 40 % longer, at random moments
drift     the board warms up within minutes and is slower by ``drift`` then
jitter    of each inference by itself: 2 % of 0.4 ms, and in longer ones less, as the root of their length
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.signal import lfilter
from scipy.stats import norm

from device_agents import arguments, cooling, measure, progress, protocol, telemetry
from pipeline.devices.sessions import OnLine, Zipapp
from pipeline.records import Device, MeasureSettings, SshAddress

Floats = NDArray[np.float64]

GRID_S = 0.002
"""Speed is constant within such a step."""
BLOCK_STEPS = 25
"""Of the 50-ms blocks by which ``pair_sd`` and ``phi`` are estimated, however long a measurement's own blocks are."""
CHUNK_STEPS = 2048
"""So many steps are drawn at a time: 4.1 s."""
LEAST_S = 0.005
"""In less, the correlation of a model's own noise never falls by e: noise shorter than an inference would shift the
median of a fast model's inferences more than a slow one's."""
COMMON_S = 2.0
"""In which the correlation of the common part falls by e."""
WARM_S = 600.0
"""In which a board has warmed up to 63 %."""
BURST_S = (0.05, 0.30)
BURST_SLOWER = (0.10, 0.40)
PROCESS_S = 0.5
"""To start a process and import its runtime."""
JITTER, JITTER_MS = 0.02, 0.4
LEAST_SPEED = 0.2
_STATE = dict.fromkeys(
    ("temperature_c", "clock_mhz", "governor", "load", "cpu_busy_s", "cpu_steal_s", "memory_free_mb", "disk_free_mb",
     "throttled")
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a board does to latencies; standard deviations and shares as fractions."""

    base_ms: float = 5.0
    """Of the base model, undisturbed."""
    between: float = 0.0
    """Standard deviation of the logarithm of the ratio of two models' latencies, from process to process."""
    pair_sd: float = 0.02
    """Standard deviation of the ratio of one 50-ms block to its neighbour, by the models' own noise."""
    phi: float = 0.0
    """Lag-1 correlation of these ratios, from one pair of blocks to the next."""
    common_sd: float = 0.01
    """Standard deviation of what both models share. A ResNet-20 measured alone, 1.6 s at a time, on two shared x86-64
    cores: 0.9 to 1.5 % from one measurement to the next."""
    drift: float = 0.0
    """By how much a board that has warmed up takes longer."""
    bursts_per_s: float = 0.0
    """Bursts of neighbours that begin in a second, on average."""

    @property
    def own_sd(self) -> float:
        """Standard deviation of one model's own speed at any moment."""
        return self.pair_sd / math.sqrt(2) / math.sqrt(_variance_of_mean(BLOCK_STEPS, correlation_s(self.phi)))

    @property
    def burst_share(self) -> float:
        """Share of the time that lies within bursts."""
        return -math.expm1(-self.bursts_per_s * sum(BURST_S) / 2)

    def median_ms(self, ms: float) -> float:
        """Return the median over very many inferences that take ``ms`` undisturbed, on a board that is still cold.

        All noises are symmetric about 1 but the bursts: those move the median, by the more, the wider the others are.
        """
        own = self.own_sd**2 * _variance_of_mean(max(1, round(ms / 1e3 / GRID_S)), correlation_s(self.phi))
        spread = math.sqrt(own + self.common_sd**2 + _jitter(ms) ** 2)
        slower = np.log1p(np.linspace(*BURST_SLOWER, 31))
        slowed = self.burst_share / float(np.exp(slower).mean())
        share = slowed / (slowed + 1 - self.burst_share)  # of the inferences, which are fewer there

        def excess(shift: float) -> float:
            below = (1 - share) * norm.cdf(shift / spread) + share * norm.cdf((shift - slower) / spread).mean()
            return float(below) - 0.5

        return ms * math.exp(brentq(excess, 0.0, float(slower[-1]))) if share else ms


@functools.cache
def correlation_s(phi: float) -> float:
    """Return the time in which the correlation of a model's own noise falls by e where pairs of blocks have ``phi``.

    Blocks of 50 ms take turns as candidate reference reference candidate, so a model's blocks follow each other after
    150 and after 50 ms, alternately: ``phi`` is the mean of the correlations of block means at these two distances. The
    common part, which nearly falls out, takes up to 0.03 from it; so 0 stands for the 0.03 that ``LEAST_S`` gives.

    >>> [round(correlation_s(phi), 3) for phi in (0.0, 0.2, 0.4, 0.6)]
    [0.005, 0.03, 0.071, 0.145]
    """
    if phi <= pair_correlation(LEAST_S):
        return LEAST_S
    return float(brentq(lambda tau_s: pair_correlation(tau_s) - phi, LEAST_S, 100.0))


def pair_correlation(tau_s: float) -> float:
    """Return the lag-1 correlation of the ratios of neighbouring 50-ms blocks; see ``correlation_s``."""
    variance = _variance_of_mean(BLOCK_STEPS, tau_s)
    return float(np.mean([_covariance_of_means(steps, tau_s) for steps in (BLOCK_STEPS, 3 * BLOCK_STEPS)]) / variance)


def _variance_of_mean(steps: int, tau_s: float) -> float:
    """Return the variance of the mean of so many steps of a process of unit variance."""
    return _covariance_of_means(0, tau_s, steps)


def _covariance_of_means(distance: int, tau_s: float, steps: int = BLOCK_STEPS) -> float:
    """Return the covariance of the means of two runs of steps, the second one ``distance`` steps after the first."""
    apart = np.abs(np.subtract.outer(np.arange(steps), np.arange(steps) + distance))
    return float((_keep(tau_s) ** apart).mean())


def _keep(tau_s: float) -> float:
    """Return the correlation after one step."""
    return math.exp(-GRID_S / tau_s)


def _jitter(ms: float) -> float:
    return JITTER * min(1.0, math.sqrt(JITTER_MS / ms))


def model_file(ms: float, name: str) -> bytes:
    """Return the file of a model; ``name`` makes it another file than those of models that are as fast."""
    return json.dumps({"ms": ms, "name": name}).encode()


class Clock:
    """Stands in for the module ``time``; it runs while models do, and while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        """Return the virtual time in seconds."""
        return self.now_s

    perf_counter = time = monotonic

    def sleep(self, seconds: float) -> None:
        """Let the time pass."""
        self.now_s += max(0.0, seconds)


class Wander:
    """Noise of unit variance on the grid, whose correlation falls by e within ``tau_s``; drawn chunk by chunk."""

    def __init__(self, tau_s: float, generator: np.random.Generator) -> None:
        self._keep = _keep(tau_s)
        self._generator = generator
        self._last = float(generator.normal())

    def draw(self) -> Floats:
        """Return the next chunk."""
        shocks = self._generator.normal(size=CHUNK_STEPS) * math.sqrt(1 - self._keep**2)
        drawn, _ = lfilter([1.0], [1.0, -self._keep], shocks, zi=[self._keep * self._last])
        self._last = float(drawn[-1])
        return np.asarray(drawn)


class Surroundings:
    """What both models of one process feel alike: the common noise, the bursts of neighbours, the drift."""

    def __init__(self, conditions: Conditions, generator: np.random.Generator, start_s: float, cold_s: float) -> None:
        self.start_s = start_s
        self._conditions = conditions
        self._generator = generator
        self._warm = conditions.drift * -math.expm1(-(start_s - cold_s) / WARM_S)
        self._common = Wander(COMMON_S, generator)
        self._chunks: list[tuple[Floats, Floats]] = []
        self._bursts: list[tuple[float, float, float]] = []

    def chunk(self, number: int) -> tuple[Floats, Floats]:
        """Return the common noise of a chunk, and by how much everything takes longer."""
        while len(self._chunks) <= number:
            common = self._conditions.common_sd * self._common.draw()
            self._chunks.append((common, (1 + self._warm) * self._slower(len(self._chunks))))
        return self._chunks[number]

    def _slower(self, number: int) -> Floats:
        slower = np.ones(CHUNK_STEPS)
        chunk_s = CHUNK_STEPS * GRID_S
        first_s, end_s = number * chunk_s, (number + 1) * chunk_s
        from_s = first_s if number else -BURST_S[1]
        for _ in range(self._generator.poisson(self._conditions.bursts_per_s * (end_s - from_s))):
            at_s = self._generator.uniform(from_s, end_s)
            until_s = at_s + self._generator.uniform(*BURST_S)
            self._bursts.append((at_s, until_s, 1 + self._generator.uniform(*BURST_SLOWER)))
        for at_s, until_s, times in self._bursts:
            begin, end = (min(CHUNK_STEPS, max(0, round((s - first_s) / GRID_S))) for s in (at_s, until_s))
            slower[begin:end] *= times
        return slower


class Model:
    """A loaded model; what a runtime's ``load`` returns."""

    inputs = (("input", [1], "float32"),)
    batch = None
    about: Mapping[str, Any] = {}

    def __init__(
        self, ms: float, conditions: Conditions, around: Surroundings, clock: Clock, generator: np.random.Generator
    ) -> None:
        self._around = around
        self._own = Wander(correlation_s(conditions.phi), generator)
        self._own_sd = conditions.own_sd
        self._speed = math.exp(generator.normal() * conditions.between / math.sqrt(2))
        self._work_ms = [0.0]
        """Undisturbed milliseconds of this model that are done by each step of the grid."""
        runs_ms = itertools.cycle((ms * np.exp(_jitter(ms) * generator.normal(size=1021))).tolist())
        self.step = self._stepping(clock, runs_ms)

    def _stepping(self, clock: Clock, runs_ms: Iterator[float]) -> Callable[[], None]:
        """Return what runs the model once: the clock moves on until so much work is done.

        A function over local names: of a fast model, millions of inferences are run.
        """
        work, start_s, extend = self._work_ms, self._around.start_s, self._extend

        def step() -> None:
            place = (clock.now_s - start_s) / GRID_S
            at = int(place)
            while at + 1 >= len(work):
                extend()
            begun = work[at]
            done = begun + (place - at) * (work[at + 1] - begun) + next(runs_ms)
            while work[-1] <= done:
                extend()
            after = bisect_right(work, done, at)
            begun = work[after - 1]
            clock.now_s = start_s + GRID_S * (after - 1 + (done - begun) / (work[after] - begun))

        return step

    def finite(self) -> bool:
        """Run once; its outputs are finite."""
        self.step()
        return True

    def _extend(self) -> None:
        common, slower = self._around.chunk((len(self._work_ms) - 1) // CHUNK_STEPS)
        speed = np.maximum(LEAST_SPEED, 1 - common - self._own_sd * self._own.draw()) / slower * self._speed
        self._work_ms += (self._work_ms[-1] + np.cumsum(speed) * GRID_S * 1e3).tolist()


class Board:
    """One board that has just been switched on; every process and model on it draws its own noise."""

    def __init__(self, conditions: Conditions, generator: np.random.Generator) -> None:
        self.clock = Clock()
        self.measurements = 0
        """Requests ``measure`` that were answered: each is a process of its own."""
        self._conditions = conditions
        self._generator = generator
        self._cold_s = self.clock.now_s
        self._files: dict[str, bytes] = {}
        self._around: Surroundings | None = None

    def device(self, settings: MeasureSettings | None = None) -> Device:
        """Return its entry of the inventory."""
        return Device(
            name="simulated", kind="linux", ssh=SshAddress(host="192.0.2.1", retries=0), runtime="simulated",
            measure=settings or MeasureSettings(),
        )  # fmt: skip

    def opening(self, device: Device, zipapp: Zipapp) -> _Session:
        """Return a session with it; what ``open_agent`` takes."""
        del device
        return _Session(self, zipapp)

    def put(self, content: bytes, name: str) -> None:
        """Keep a model file."""
        self._files[name] = content

    def measure(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the agent's own answer."""
        self.measurements += 1
        asked = arguments.measure(dict(request))
        self._around = Surroundings(self._conditions, self._generator, self.clock.now_s, self._cold_s)
        with virtual(self.clock, self):
            self.clock.sleep(PROCESS_S)
            return measure.run(asked, "/", lambda _: None)

    def load(self, path: str, options: Mapping[str, Any], seed: int) -> Model:
        """Load a model, as a runtime does."""
        del options, seed
        assert self._around is not None  # only measure loads
        ms = float(json.loads(self._files[path])["ms"])
        return Model(ms, self._conditions, self._around, self.clock, self._generator)


@contextmanager
def virtual(clock: Clock, runtime: Board) -> Iterator[None]:
    """Give the agent's modules another clock, a board that says nothing of its state, and this runtime."""
    with ExitStack() as patched:
        for module in _reading_time():
            patched.enter_context(mock.patch.object(module, "time", clock))
        for module, name, instead in (
            (measure, "gc", SimpleNamespace(collect=_nothing, disable=_nothing, enable=_nothing)),
            (measure, "open_runtime", lambda _: (runtime, "1")),
            (telemetry, "now", lambda *_: dict(_STATE)),
            (telemetry, "peak_rss_mb", lambda *_: None),
            (cooling, "temperature_c", lambda *_: None),
            (progress, "temperature_c", lambda *_: None),
        ):
            patched.enter_context(mock.patch.object(module, name, instead))
        yield


def _nothing() -> None:
    """Collect no garbage: that takes a tenth of a second where much is loaded, and disturbs no virtual board."""


@functools.cache
def _reading_time() -> list[ModuleType]:
    """Return the agent's modules that a measurement reads the time in."""
    agent = [module for name, module in sys.modules.items() if name.startswith("device_agents.")]
    return [module for module in agent if getattr(module, "time", None) is time]


class _Session:
    """The way to a simulated board."""

    def __init__(self, board: Board, zipapp: Zipapp) -> None:
        self._board = board
        self._sha256 = zipapp.sha256

    def put(self, source: bytes | Path, name: str) -> int:
        content = source if isinstance(source, bytes) else source.read_bytes()
        self._board.put(content, name)
        return len(content)

    def exchange(self, line: bytes, deadline_s: float, on_line: OnLine, max_bytes: int = 0) -> None:
        del deadline_s, max_bytes
        request = protocol.decode(line)
        result = self._board.measure(request) if request["verb"] == "measure" else self._hello()
        on_line(protocol.encode({"id": request["id"], "ok": True, "result": result}))

    def close(self) -> None:
        pass

    def _hello(self) -> dict[str, Any]:
        texts = dict.fromkeys(("python", "machine", "board", "kernel", "cpu"), "simulated")
        return {
            **texts, "agent_sha256": self._sha256, "cores": 4, "simd": "none", "memory_mb": 4000.0,
            "disk_free_mb": 9000.0, "runtimes": {"simulated": "1"}, "sensors": {"null": "ok"},
        }  # fmt: skip
