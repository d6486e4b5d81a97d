"""One request in a process of its own, so that a crash, a hang or a leak in a runtime costs that request alone."""

import resource
from typing import Any, Callable, Dict

from device_agents import measure, verify
from device_agents.arguments import Measure, Power, Verify
from device_agents.errors import AgentError

Emit = Callable[[Dict[str, Any]], None]


def serve(job: Dict[str, Any], emit: Emit) -> None:
    """Do the job and send its result: {"ok": true, "result"} or {"ok": false, "error"}."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no core file on the board
    try:
        emit({"ok": True, "result": _run(job, emit)})
    except AgentError as error:
        emit({"ok": False, "error": {"kind": error.kind, "message": str(error)}})


def _run(job: Dict[str, Any], emit: Emit) -> Dict[str, Any]:
    arguments, folder = job["arguments"], job["folder"]
    if job["verb"] == "verify":
        return verify.run(Verify(**arguments), folder, emit)
    return measure.run(Measure(**dict(arguments, power=Power(*arguments["power"]))), folder, emit)
