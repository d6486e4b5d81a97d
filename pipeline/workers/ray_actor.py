"""Ray actor: computes one task after another in a process of the cluster, and is asked meanwhile what it has said."""

from __future__ import annotations

import logging
import os
import platform
import queue
from importlib.metadata import version
from typing import Any

from pipeline import __version__
from pipeline.workers.messages import Answer, Call, carried_out, dumps, loads


def versions() -> dict[str, str]:
    """Return the versions on which results depend."""
    return {"pipeline": __version__, "python": platform.python_version(), "torch": version("torch")}


class Actor:
    """A worker's end of the line; its methods are called from several threads."""

    def __init__(self) -> None:
        self._said: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._answer = Answer(self._said.put)
        self._keep: dict[str, Any] = {}
        logging.lastResort = None  # lines are sent, and shown there

    def versions(self) -> dict[str, str]:
        """Return where it runs, and the versions on which results depend."""
        import ray

        return {"address": ray.util.get_node_ip_address(), "pid": str(os.getpid()), **versions()}

    def run(self, call: bytes, shared: list[Any]) -> bytes:
        """Compute a task; ``shared`` holds the place of what it is computed from."""
        import ray

        self._answer.begin()
        wanted: Call = loads(call)
        payload = None if wanted.shared in self._keep else ray.get(shared[0])
        return dumps(carried_out(wanted, payload, self._keep, self._answer))

    def messages(self) -> list[bytes]:
        """Return what the task has said since this was asked last."""
        found = []
        while not self._said.empty():
            found.append(self._said.get())
        if found:
            self._answer.heard(len(found))
        return found

    def stop(self) -> None:
        """Ask the task to end where it next says something."""
        self._answer.stop()
