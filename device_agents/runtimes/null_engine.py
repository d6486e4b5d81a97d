"""The null runtime that builds engines first: takes the time, the memory and the fate that it is told.

Its model is the null runtime's JSON file, with more keys:

{"build_ms": 0,              time of a build
 "build_needs_mb": 100,      what it can do with: in a larger workspace the kernel kills it, as it does when memory ends
 "build_holds_mb": 0,         memory that the build takes and writes to
 "build_says": "text",       printed to stderr before anything goes wrong
 "build_refuse": "why"}      raised while building
"""

import json
import os
import signal
import sys
import time
from typing import Any, Dict, Tuple

from device_agents import engines
from device_agents.runtimes import null, own

BUILDS = True
_DEFAULTS = {"workspace_mb": 256}


def installed() -> str:
    """Return the agent's own version: this runtime is always there."""
    return null.installed()


def version() -> str:
    """Return the agent's own version."""
    return null.version()


def recipe(options: Dict[str, Any]) -> Dict[str, Any]:
    """Return the options: nothing else decides what comes of a model."""
    return own(options, _DEFAULTS)


def build(model: str, recipe: Dict[str, Any], workspace_mb: int) -> Tuple[bytes, Dict[str, Any]]:
    """Return the model's own bytes, once the time has passed."""
    del recipe
    told = null.behaviour(model)
    sys.stderr.write(told.get("build_says", ""))
    sys.stderr.flush()
    held = [b"x" * 10**6 for _ in range(told.get("build_holds_mb", 0))]
    time.sleep(told.get("build_ms", 0) / 1e3)
    del held
    if workspace_mb > told.get("build_needs_mb", workspace_mb):
        os.kill(os.getpid(), signal.SIGKILL)
    if "build_refuse" in told:
        raise ValueError(told["build_refuse"])
    with open(model, "rb") as file:
        return file.read(), {"workspace_mb": workspace_mb}


def load(path: str, options: Dict[str, Any], seed: int) -> null.Model:
    """Load the engine as the null runtime loads its file."""
    del options, seed
    engine, about = engines.read(path)
    model = null.Model(json.loads(engine.decode("utf-8")))
    model.about = about
    return model
