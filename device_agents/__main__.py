"""The agent's entrance: ``serve`` for the host; the other modes are the agent's own children.

    python3 agent.pyz --dir ~/.cache/pipeline-agent

Requests come on stdin, one a line, and answers go to stdout (see :mod:`device_agents.protocol`). It ends when stdin
closes and leaves no process behind.
"""

import argparse
import functools
import os
import signal
import sys
from typing import Any, Callable, Dict, List, Optional

from device_agents import protocol, wire

_MEGABYTE = 10**6


def main(arguments: Optional[List[str]] = None) -> None:
    """Run in the mode that the command line names."""
    options = _parser().parse_args(arguments)
    out = wire.take_stdout()
    if options.mode == "serve":
        _serve(os.path.abspath(os.path.expanduser(options.dir)), options.quota_mb * _MEGABYTE, out)
    elif options.mode == "watchdog":
        _watchdog(out)
    else:
        _child(options.mode, out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="device agent", description="Measures networks on this board.")
    parser.add_argument("mode", nargs="?", default="serve", choices=["serve", "worker", "sampler", "build", "watchdog"])
    parser.add_argument("--dir", default="~/.cache/pipeline-agent", help="folder of the agent's model files")
    parser.add_argument("--quota-mb", type=int, default=512, help="how much that folder may hold (default 512)")
    return parser


def _serve(folder: str, quota: int, out: int) -> None:
    from device_agents.serve import Server

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's; the agent ends when its line closes
    Server(folder, wire.Lines(0), out, quota).serve()


def _watchdog(out: int) -> None:
    from device_agents import watchdog  # little is imported: it sits there as long as the board is held

    job = protocol.decode(sys.stdin.buffer.readline())
    try:
        watchdog.serve(job, functools.partial(wire.send, out))
    except BrokenPipeError:
        pass  # the agent is gone, and what there was to do is done


def _child(mode: str, out: int) -> None:
    from device_agents import building, sampler, worker

    job = protocol.decode(sys.stdin.buffer.readline())
    emit: Callable[[Dict[str, Any]], None] = functools.partial(wire.send, out)
    modes: Dict[str, Any] = {"worker": worker.serve, "sampler": sampler.serve, "build": building.serve}
    try:
        modes[mode](job, emit)
    except BrokenPipeError:
        pass  # the agent that asked is gone


if __name__ == "__main__":
    main()
