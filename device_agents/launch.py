"""Where this agent came from, and how it is started again as a child of its own."""

import os
import sys
from typing import Dict, List, Optional

import device_agents

_LEAN_MODES = ("sampler", "watchdog")

_HOME = os.path.dirname(os.path.dirname(os.path.abspath(device_agents.__file__)))
"""The folder that the package lies in, or the zipapp's file."""


def zipapp() -> Optional[str]:
    """Return the path of the zipapp that this agent came in, or None when it runs from its sources.

    It runs from the zipapp itself or from the folder beside it (see :mod:`device_agents.bootstrap`).
    """
    return next((path for path in (_HOME, _HOME + ".pyz") if os.path.isfile(path)), None)


def command(mode: str) -> List[str]:
    """Return the command line that starts this same agent in another mode.

    What needs the standard library alone goes without the site's packages, and is a megabyte or two smaller.
    """
    archive = zipapp()
    lean = ["-S"] if mode in _LEAN_MODES else []
    return [sys.executable] + lean + ([archive] if archive else ["-m", "device_agents"]) + [mode]


def environment() -> Dict[str, str]:
    """Return the environment in which ``command`` finds the agent."""
    found = dict(os.environ)
    if not zipapp():
        found["PYTHONPATH"] = os.pathsep.join(filter(None, [_HOME, found.get("PYTHONPATH")]))
    return found
