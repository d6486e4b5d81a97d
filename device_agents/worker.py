"""One request in a process of its own, so that a crash, a hang or a leak in a runtime costs that request alone."""

import os
import resource
import sys
from typing import Any, Dict, List, Optional

from device_agents import building, measure, memory, protocol, verify
from device_agents.arguments import Measure, Power, Verify
from device_agents.errors import AgentError
from device_agents.protocol import BAD_REQUEST
from device_agents.turns import Windows
from device_agents.wire import Emit


def serve(job: Dict[str, Any], emit: Emit) -> None:
    """Do the job and send its result: {"ok": true, "result"} or {"ok": false, "error"}."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no core file on the board
    memory.prefer_as_victim()
    try:
        emit({"ok": True, "result": _run(job, emit)})
    except AgentError as error:
        emit({"ok": False, "error": {"kind": error.kind, "message": str(error)}})


def _run(job: Dict[str, Any], emit: Emit) -> Dict[str, Any]:
    if job["verb"] == "build":
        return building.run(job, emit)
    arguments, folder = job["arguments"], job["folder"]
    pin(arguments["affinity"])
    if job["verb"] == "verify":
        return verify.run(Verify(**arguments), folder, emit)
    asked = Measure(**dict(arguments, power=Power(*arguments["power"])))

    def energy_enough(turns: List[Windows]) -> bool:
        emit({"turns": turns, "ci_rel": asked.ci_rel})
        return bool(protocol.decode(sys.stdin.buffer.readline())["enough"])

    return measure.run(asked, folder, emit, energy_enough, job["reference_first"])


def pin(cores: Optional[List[int]]) -> None:
    """Keep this process, and every thread that a runtime will start in it, on these cores; None: on all there are.

    Raises:
        AgentError: BAD_REQUEST for a core that is not there, or is switched off.
    """
    if cores is None:
        return
    there = os.sched_getaffinity(0)
    if not set(cores) <= there:
        missing = ", ".join(str(core) for core in sorted(set(cores) - there))
        known = ", ".join(str(core) for core in sorted(there))
        raise AgentError(BAD_REQUEST, "affinity: no core %s here now; there are %s" % (missing, known))
    os.sched_setaffinity(0, cores)
