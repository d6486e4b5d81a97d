"""The null runtime: runs no network, takes the time it is told. For dry runs, and to see what the agent survives.

Its model is a small JSON file; every key is optional:

{"ms": 2.0,          time of an inference
 "burn": true,       by computing rather than sleeping
 "load_ms": 0,       time to load
 "hold_mb": 0,       memory that is taken and written to while loading
 "outputs": [0.5],   what an inference answers, for every image
 "say": "text",      printed to stdout at each inference, as chatty libraries do
 "refuse": "why",    raised while loading
 "fail_after": 3,    inferences that succeed before one raises,
 "hang_after": 3,    before one never returns,
 "exit_after": 3,    before the process ends with exit code 7,
 "crash_after": 3,   before the process dies of a segmentation fault,
 "leave": true}      a child process is left running
"""

import array
import json
import math
import os
import sys
import time
from typing import Any, Dict, List, Tuple

from device_agents import protocol


def installed() -> str:
    """Return the agent's own version: this runtime is always there."""
    return str(protocol.VERSION)


def version() -> str:
    """Return the agent's own version."""
    return installed()


def load(path: str, options: Dict[str, Any], seed: int) -> "Model":
    """Read the JSON file; ``options`` and ``seed`` change nothing."""
    del options, seed
    return Model(behaviour(path))


def behaviour(path: str) -> Dict[str, Any]:
    """Return what the file at ``path`` says."""
    with open(path, encoding="utf-8") as file:
        return dict(json.load(file))


class Model:
    """What the JSON file says."""

    inputs: List[Tuple[str, List[int], str]] = [("input", [1], "float32")]
    batch = None
    about: Dict[str, Any] = {}

    def __init__(self, behaviour: Dict[str, Any]) -> None:
        self._behaviour = behaviour
        self._outputs = array.array("f", behaviour.get("outputs", [1.0]))
        self._count = 0
        if "refuse" in behaviour:
            raise ValueError(behaviour["refuse"])
        if behaviour.get("leave"):
            import subprocess  # not above: hello loads every runtime's module, and has to be quick

            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        self._held = [b"x" * 10**6 for _ in range(behaviour.get("hold_mb", 0))]
        time.sleep(behaviour.get("load_ms", 0) / 1e3)

    def step(self) -> None:
        """Take the time of one inference, or fail as told."""
        for kind, fail in _FAILURES.items():
            if self._count >= self._behaviour.get(kind, math.inf):
                fail()
        self._count += 1
        if "say" in self._behaviour:
            os.write(1, self._behaviour["say"].encode("utf-8"))
        _spend(self._behaviour.get("ms", 0) / 1e3, self._behaviour.get("burn", False))

    def finite(self) -> bool:
        """Whether the outputs in the file are finite."""
        self.step()
        return all(map(math.isfinite, self._outputs))

    def outputs(self, values: bytes, shape: Tuple[int, ...]) -> bytes:
        """Return the outputs in the file for each image."""
        del values
        self.step()
        return self._outputs.tobytes() * shape[0]


def _spend(seconds: float, burn: bool) -> None:
    if not burn:
        time.sleep(seconds)
        return
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def _fail() -> None:
    raise RuntimeError("told to fail")


def _hang() -> None:
    while True:
        time.sleep(3600)


def _crash() -> None:
    import ctypes

    ctypes.string_at(0)


_FAILURES = {"fail_after": _fail, "hang_after": _hang, "exit_after": lambda: os._exit(7), "crash_after": _crash}
