"""The agent's entrance: it serves the host; its other modes are its own children.

    python3 agent.pyz --dir ~/.cache/pipeline-agent

Requests come on stdin, one a line, and answers go to stdout (see :mod:`device_agents.protocol`). It ends when stdin
closes and leaves no process behind.
"""

import functools
import importlib
import os
import signal
import sys
from typing import Dict, List, Optional

from device_agents import launch, protocol, wire

_USAGE = """usage: python3 agent.pyz [--dir FOLDER] [--quota-mb MB]

Measures networks on this board.

  --dir FOLDER     folder of the agent's model files (default ~/.cache/pipeline-agent)
  --quota-mb MB    how much that folder may hold (default 512)
"""
_CHILDREN = {"worker": "worker", "sampler": "sampler", "build": "building", "watchdog": "watchdog"}
"""The module of each other mode; only that one is imported, since a sampler or a watchdog stays for long."""

_COMPILE = "compile"
"""Another child, which takes no job: see ``launch.py``."""

_MEGABYTE = 10**6


def main(arguments: Optional[List[str]] = None) -> None:
    """Run in the mode that the command line names."""
    words = sys.argv[1:] if arguments is None else arguments
    os.umask(0o077)
    if words == [_COMPILE]:
        compiling = importlib.import_module("device_agents.compiling")
        compiling.write(launch.zipapp(), 1)
    elif words and words[0] in _CHILDREN:
        _child(_CHILDREN[words[0]], wire.take_stdout())
    else:
        _serve(options(words))


def options(words: List[str]) -> Dict[str, str]:
    """Return the agent's options; argparse would be half a megabyte for two of them.

    >>> options(["--quota-mb=1"]) == {"--dir": "~/.cache/pipeline-agent", "--quota-mb": "1"}
    True
    """
    found = {"--dir": "~/.cache/pipeline-agent", "--quota-mb": "512"}
    rest = list(words)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name in ("-h", "--help"):
            sys.stdout.write(_USAGE)
            sys.exit()
        if name not in found or not (equals or rest):
            sys.exit("%r: no such option, or its value is missing\n%s" % (name, _USAGE))
        found[name] = value if equals else rest.pop(0)
    if not found["--quota-mb"].isdigit():
        sys.exit("--quota-mb is %r, expected a whole number\n%s" % (found["--quota-mb"], _USAGE))
    return found


def _serve(asked: Dict[str, str]) -> None:
    from device_agents.folder import FolderError, secure
    from device_agents.serve import Server

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's; the agent ends when its line closes
    try:
        folder = secure(asked["--dir"], make=False)
    except (FolderError, OSError) as error:
        sys.exit("cannot use the agent's folder %s: %s" % (asked["--dir"], error))
    Server(folder, wire.Lines(0), wire.take_stdout(), int(asked["--quota-mb"]) * _MEGABYTE).serve()


def _child(module: str, out: int) -> None:
    serve = importlib.import_module("device_agents." + module).serve
    job = protocol.decode(sys.stdin.buffer.readline())
    try:
        serve(job, functools.partial(wire.send, out))
    except BrokenPipeError:
        pass  # the agent that asked is gone


if __name__ == "__main__":
    main()
