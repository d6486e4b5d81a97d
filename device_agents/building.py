"""Engines are built in a process of their own, within a time limit, and again in half the workspace where memory ends.

A build takes from seconds to many minutes, and on a board whose GPU shares the memory it may take all of it: the kernel
then kills the process, or the runtime gives up. Swap does not help the GPU; a smaller workspace does. Nothing else is
loaded meanwhile: the agent's worker does no more than wait, and measures only when every engine is there.

What a runtime needs for this is told in :mod:`device_agents.runtimes`.
"""

import errno
import os
import resource
import select
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from device_agents import engines, memory, plugins
from device_agents.arguments import conditions
from device_agents.errors import AgentError
from device_agents.processes import Child
from device_agents.progress import Progress
from device_agents.protocol import DISK_FULL, REFUSED, TIMEOUT, decode
from device_agents.runtimes import open_runtime, refusals
from device_agents.wire import Emit

_GRACE_S = 10.0
_DYING_S = 5.0
_LEAST_WORKSPACE_MB = 1


class Failure(NamedTuple):
    """A build that gave nothing."""

    workspace_mb: int
    words: str

    @property
    def out_of_memory(self) -> bool:
        """Whether less workspace may help.

        >>> Failure(256, "was killed by SIGKILL (out of memory? see dmesg)").out_of_memory
        True
        >>> Failure(256, "RuntimeError: No importer registered for op: NonZero").out_of_memory
        False
        """
        return bool(memory.OUT_OF_MEMORY.search(self.words))


def job(asked: Any) -> Optional[Dict[str, Any]]:
    """Return the worker's job that comes before ``asked``, a ``Measure`` or ``Verify``; None where nothing is built."""
    if not getattr(plugins.load("device_agents.runtimes", asked.runtime), "BUILDS", False):
        return None
    models = {name: getattr(asked, name, None) for name in ("candidate", "reference")}
    return {
        "verb": "build",
        "runtime": asked.runtime,
        "models": {name: path for name, path in models.items() if path},
        "options": conditions(asked),
        "memory_share": asked.memory_share,
    }


def limit_s(asked: Any) -> float:
    """Return how long that job may take in all; it ends by itself before, and says why."""
    return float(asked.build_timeout_s) + _GRACE_S


def run(job: Dict[str, Any], emit: Emit) -> Dict[str, Any]:
    """Build what is missing; return the engines' paths by the models' names.

    Raises:
        AgentError: REFUSED when there is no engine to be had, TIMEOUT when there was none in time, DISK_FULL.
    """
    runtime, _ = open_runtime(job["runtime"])
    with refusals():
        recipe = runtime.recipe(job["options"])
    build_s = job["options"]["build_timeout_s"]
    deadline = time.monotonic() + build_s
    limit = Limit(build_s, deadline, job["memory_share"])
    progress = Progress(emit)
    built = {}
    for name, model in sorted(job["models"].items()):
        path = engines.path(model, recipe)
        if not _usable(path):
            _build(job["runtime"], model, path, recipe, limit, lambda: progress.tell("build"))
        built[name] = path
    return built


def attempts(workspace_mb: int) -> List[int]:
    """Return the workspaces to try, in order.

    >>> attempts(256), attempts(1)
    ([256, 128], [1])
    """
    half = workspace_mb // 2
    return [workspace_mb] + ([half] if half >= _LEAST_WORKSPACE_MB else [])


class Limit(NamedTuple):
    """The time for all builds of a request, and the share of the board's memory for each."""

    seconds: float
    deadline: float
    memory_share: float


def serve(job: Dict[str, Any], emit: Emit) -> None:
    """Build one engine, in this process: {"built": true} or {"failed": why, "disk_full": whether that is why}."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    memory.prefer_as_victim()
    runtime = plugins.load("device_agents.runtimes", job["runtime"])
    try:
        engine, about = runtime.build(job["model"], job["recipe"], job["workspace_mb"])
        engines.write(job["path"], engine, about)
    except Exception as error:  # each library raises its own kinds
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        emit({"failed": "%s: %s" % (type(error).__name__, error), "disk_full": full})
    else:
        emit({"built": True})


def _usable(path: str) -> bool:
    try:
        engines.read(path)
    except FileNotFoundError:
        return False
    except engines.EngineError:
        os.remove(path)
        return False
    return True


def _build(runtime: str, model: str, path: str, recipe: Dict[str, Any], limit: Limit, tell: Callable[[], None]) -> None:
    failures: List[Failure] = []
    for workspace_mb in attempts(recipe["workspace_mb"]):
        job = {"runtime": runtime, "model": model, "path": path, "recipe": recipe, "workspace_mb": workspace_mb}
        with Child("build", job) as child:
            words = _wait(child, limit, tell)
        if words is None:
            return
        failures.append(Failure(workspace_mb, words))
        if not failures[-1].out_of_memory:
            break
    tried = "; ".join("with %d MB of workspace: %s" % failure for failure in failures)
    hint = "; free memory on the board, or lower workspace_mb" if failures[-1].out_of_memory else ""
    raise AgentError(REFUSED, "no engine could be built; %s%s" % (tried, hint))


def _wait(child: Child, limit: Limit, tell: Callable[[], None]) -> Optional[str]:
    """Return None once the engine is written, else what the build said last.

    Raises:
        AgentError: TIMEOUT, DISK_FULL.
    """
    guard = memory.Guard(child.pid, limit.memory_share)
    while child.lines.open:
        tell()
        try:
            guard.look()
        except AgentError as error:
            return str(error)
        left_s = limit.deadline - time.monotonic()
        if left_s <= 0:
            raise AgentError(TIMEOUT, "no engine after %g s: raise measure.build_timeout_s" % limit.seconds)
        _read(child, min(left_s, memory.EVERY_S))
        line = child.lines.pop()
        if line is not None:
            return _answer(decode(line), child, guard)
    child.wait(_DYING_S)
    return guard.explain("the build " + child.last_words())


def _answer(answer: Dict[str, Any], child: Child, guard: memory.Guard) -> Optional[str]:
    if "built" in answer:
        return None
    if answer["disk_full"]:
        raise AgentError(DISK_FULL, "no space left on the device for an engine: free some, or lower the quota")
    return guard.explain(" | ".join(filter(None, [answer["failed"], child.tail()])))


def _read(child: Child, seconds: float) -> None:
    readers = {child.lines.fd: child.lines.fill}
    if child.stderr_open:
        readers[child.stderr_fd] = child.drain_stderr
    for fd in select.select(list(readers), [], [], seconds)[0]:
        readers[fd]()
