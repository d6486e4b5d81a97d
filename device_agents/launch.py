"""Where this agent came from, and how it is started again as a child of its own."""

import functools
import os
import sys
from typing import Dict, List, Optional, Tuple

import device_agents
from device_agents import bootstrap

_LEAN_MODES = ("sampler", "watchdog")
_NOT_PASSED_ON = ("PYTHON", "LD_PRELOAD", "LD_AUDIT")
_DESCRIPTORS = "/proc/self/fd/"

_HOME = os.path.dirname(os.path.dirname(os.path.abspath(device_agents.__file__)))
"""The folder that the package lies in, or the zipapp's file."""


def zipapp() -> Optional[str]:
    """Return the path of the zipapp that this agent came in, or None when it runs from its sources.

    It names a descriptor of this process where the agent runs from a checked copy (see :mod:`device_agents.bootstrap`).
    """
    return _HOME if os.path.isfile(_HOME) else None


def command(mode: str) -> List[str]:
    """Return the command line that starts this same agent in another mode, with ``descriptors`` passed on to it.

    What needs the standard library alone goes without the site's packages, and is a megabyte or two smaller.
    """
    archive = _compiled()
    lean = ["-S"] if mode in _LEAN_MODES else []
    return [sys.executable] + lean + ([archive] if archive else ["-m", "device_agents"]) + [mode]


def descriptors() -> Tuple[int, ...]:
    """Return the open files that ``command`` needs."""
    return _descriptors(_compiled() or "")


def environment() -> Dict[str, str]:
    """Return the environment in which ``command`` finds the agent.

    A checked copy was started in a clean one. Whoever starts another by hand says by PYTHONPATH where to find a runtime
    under development, and nothing more of Python's or the linker's. NumPy's own threads would only wait, beside what is
    measured, and take a tenth of a second to start.
    """
    found = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_PASSED_ON)}
    found["OPENBLAS_NUM_THREADS"] = "1"
    paths = [] if zipapp() else [_HOME]
    paths += list(filter(None, [os.environ.get("PYTHONPATH")]))
    return dict(found, PYTHONPATH=os.pathsep.join(paths)) if paths else found


@functools.lru_cache(maxsize=None)
def _compiled() -> Optional[str]:
    """Return a zipapp of compiled modules, in a file that only this process and its children can open.

    Python compiles a zipapp's sources at every start; a session starts two or three processes a measurement, and each
    is twice as fast so. Compiled by a process of its own, which takes the compiler's memory with it.
    """
    archive = zipapp()
    if archive is None or device_agents.__file__.endswith(".pyc"):
        return archive
    import subprocess  # not above: hello has to be quick

    try:
        fd = bootstrap.nameless()
        subprocess.run(
            [sys.executable, "-S", archive, "compile"],
            stdin=subprocess.DEVNULL,
            stdout=fd,
            env=environment(),
            pass_fds=_descriptors(archive),
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return archive  # slower, and right all the same
    return _DESCRIPTORS + str(fd)


def _descriptors(archive: str) -> Tuple[int, ...]:
    return (int(archive[len(_DESCRIPTORS) :]),) if archive.startswith(_DESCRIPTORS) else ()
