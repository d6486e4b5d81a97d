"""Device check: the connection and everything a run needs on the board, step by step."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.devices import agent_plugins
from pipeline.devices.agent_client import Agent, open_agent
from pipeline.devices.agent_plugins import Setup
from pipeline.errors import (
    AuthenticationError,
    DeviceError,
    HostKeyChangedError,
    HostKeyUnknownError,
    PythonMissingError,
    UnreachableError,
)
from pipeline.export.format_plugin import portable_format
from pipeline.records import DEFAULT_RUNTIME, Device

LEAST_DISK_MB = 200.0
LEAST_MEMORY_MB = 400.0

WAY = ("connection", "host key", "login", "python", "agent")
"""Steps that build on each other: after one fails, the rest is not known."""

BOARD = ("runtime", "sensor", "permissions", "disk", "memory", "holder")

_POSIX_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
"""POSIX.1-2017, 3.437, in Linux' length, less those that begin with a digit, which tools take for a number."""
_SUDOERS_WORD = re.compile(r"[A-Z][A-Z0-9_]*|Defaults|(User|Runas|Host|Cmnd|Cmd)_Alias")
"""sudoers(5): an alias or a keyword."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One step: whether it is as it should be, what was found, and if not, the fix."""

    name: str
    ok: bool | None
    """None: not looked at, because a step before failed."""
    detail: str
    fix: str = ""
    warning: bool = False
    """It works, but figures or comfort suffer: ``fix`` is worth a look."""

    @property
    def level(self) -> Literal["ok", "warn", "bad", "skipped"]:
        """The verdict in a word."""
        if self.ok is None:
            return "skipped"
        return "bad" if not self.ok else "warn" if self.warning else "ok"


def check_device(device: Device) -> list[Finding]:
    """Try everything on ``device`` that a run needs; asks once, without retries. Never raises a DeviceError."""
    try:
        agent = open_agent(without_retries(device))
    except DeviceError as e:
        return findings_without_agent(device, e)
    with agent:
        return findings_with_agent(agent)


def without_retries(device: Device) -> Device:
    """Return the device without retries: a failure is reported, not retried."""
    return replace(device, ssh=replace(device.ssh, retries=0)) if device.ssh else device


def findings_without_agent(device: Device, error: DeviceError) -> list[Finding]:
    """Return what is known where the agent could not be started."""
    return [*_connection_failed(device, error), *_skipped(BOARD, "the agent did not start")]


def findings_with_agent(agent: Agent) -> list[Finding]:
    """Return what is known of a board whose agent runs."""
    return [*_connection_works(agent), *_board(agent)]


def missing_groups(agent: Agent) -> list[str]:
    """Return the Unix groups that board and sensor need and the user is not in; root needs none."""
    needed = [*agent.device.user_groups, *agent_plugins.sensor(agent.device, agent.power_backend).user_groups]
    return [] if agent.facts.user == "root" else [g for g in dict.fromkeys(needed) if g not in agent.facts.groups]


def sensor_setup(agent: Agent, name: str) -> Setup | None:
    """Return what the sensor's file says to run on this board where its check fails as it does here; None: nothing."""
    state, board = agent.facts.sensors.get(name, ""), agent.facts.board
    if state == "ok":
        return None
    steps = agent_plugins.sensor(agent.device, name).setup
    return next((step for step in steps if step.when in state and board.startswith(step.board)), None)


def login_name(agent: Agent) -> str:
    """Return the name of the user on the board, for a command that root will run there.

    Only a plain POSIX name is one: what else a board says may be more than a word to a shell, or to sudoers, where
    capitals name an alias, ``ALL`` means everybody, and ``%``, ``#`` and ``+`` begin a group or a number.

    Raises:
        DeviceError: the board says another name, or none.
    """
    user = agent.facts.user
    if user is None:
        raise DeviceError(
            f"{agent.device.name}: the user who logs in has no name on the board, so nothing can be granted to it; "
            "log in as a user of /etc/passwd"
        )
    if not _POSIX_NAME.fullmatch(user) or _SUDOERS_WORD.fullmatch(user):
        raise DeviceError(
            f"{agent.device.name}: the board says that its user is called {user!r}, which is no POSIX user name: "
            "nothing is written for root to run with it; log in as another user, or grant by hand what is missing"
        )
    return user


def runtime_fix(device: Device) -> str:
    """Return the command that installs the device's runtime; nothing where none is known.

    What the kind of board says counts more than what the runtime's file says.
    """
    usual = device.fixes.get("runtime") if device.runtime == DEFAULT_RUNTIME else None
    return device.fixes.get(f"runtime {device.runtime}") or usual or agent_plugins.runtime(device).install or ""


def _connection_failed(device: Device, error: DeviceError) -> Iterator[Finding]:
    step = _failed_check(error)
    at = WAY.index(step)
    for name in WAY[:at]:
        yield Finding(name, True, "not needed: this machine" if device.ssh is None and name != "python" else "ok")
    problem, _, fix = str(error).partition("; ")
    yield Finding(step, False, problem, fix or _fix(device, step))
    yield from _skipped(WAY[at + 1 :], f"{step} failed")


def _failed_check(error: DeviceError) -> str:
    """Return the step at which ``error`` stopped us."""
    steps: dict[type[DeviceError], str] = {
        UnreachableError: "connection",
        HostKeyUnknownError: "host key",
        HostKeyChangedError: "host key",
        AuthenticationError: "login",
        PythonMissingError: "python",
    }
    return steps.get(type(error), "agent")


def _skipped(names: tuple[str, ...], why: str) -> Iterator[Finding]:
    return (Finding(name, None, f"not looked at: {why}") for name in names)


def _connection_works(agent: Agent) -> Iterator[Finding]:
    ssh, facts = agent.device.ssh, agent.facts
    yield Finding("connection", True, f"{ssh.host}:{ssh.port}" if ssh else "not needed: this machine")
    yield Finding("host key", True, "trusted" if ssh else "not needed: this machine")
    yield Finding("login", True, f"user {facts.user}")
    yield Finding("python", True, f"{facts.python} on {facts.board}")
    yield Finding("agent", True, f"{facts.agent_sha256[:12]} in {agent.device.agent_dir}")


def _board(agent: Agent) -> Iterator[Finding]:
    yield _runtime(agent)
    yield _sensor(agent)
    yield _permissions(agent)
    yield _free_space(agent.device, "disk", agent.facts.disk_free_mb, LEAST_DISK_MB, "free")
    yield _free_space(agent.device, "memory", agent.facts.memory_mb, LEAST_MEMORY_MB, "installed")
    yield _holder(agent)


def _runtime(agent: Agent) -> Finding:
    wanted, there = agent.device.runtime, agent.facts.runtimes
    if wanted in there:
        support, format = agent.onnx_support, portable_format(agent.device.format)
        newest = f"ONNX opset <= {support.opset}, IR <= {support.ir}"
        loads = newest if format == "onnx" else f"files of format {format}"
        return _chosen(agent, f"{wanted} {there[wanted]}: {loads}")
    if wanted in agent.facts.broken_runtimes:
        return Finding("runtime", False, agent.facts.broken_runtimes[wanted], _change("runtimes", wanted))
    found = ", ".join(sorted(there)) or "none"
    fix = runtime_fix(agent.device) or _fix(agent.device, f"runtime {wanted}")
    return Finding("runtime", False, f"{wanted} is not installed there; found: {found}", fix)


def _chosen(agent: Agent, detail: str) -> Finding:
    """Return the verdict on a runtime that is there, with why it is this one where the inventory leaves a choice."""
    choice = agent.runtime_choice
    if choice is None:
        return Finding("runtime", True, detail)
    if choice.missing is None:
        return Finding("runtime", True, f"{detail}; {choice.why}")
    fix = runtime_fix(replace(agent.device, runtime=choice.missing))
    settled = f"or `runtime: {choice.runtime}` in the inventory, to leave it at that"
    return Finding("runtime", True, f"{detail}; {choice.why}", f"{fix}; {settled}" if fix else settled, warning=True)


def _sensor(agent: Agent) -> Finding:
    name = agent.power_backend
    if name == "null":
        why = _why_none(agent) if agent.device.power.backend == "auto" else "none, as configured"
        return Finding("sensor", True, f"{why}; power is not measured")
    state = agent.facts.sensors.get(name, f"the agent has no sensor {name!r}")
    if state == "ok":
        return Finding("sensor", True, f"{name}: ok")
    step = sensor_setup(agent, name)
    fix = step.command if step else _fix(agent.device, "sensor")
    return Finding("sensor", False, f"{name}: {state}", _change("power", name) if f"{name}.py" in state else fix)


def _why_none(agent: Agent) -> str:
    """Return which sensors cannot be read: where one could be set up, that one and what it lacks."""
    others = {name: state for name, state in agent.facts.sensors.items() if name != "null"}
    near = [f"{name}: {state}" for name, state in others.items() if sensor_setup(agent, name)]
    return f"none can be read ({near[0] if near else ', '.join(others)})"


def _permissions(agent: Agent) -> Finding:
    missing, user = missing_groups(agent), agent.facts.user
    if not missing:
        return Finding("permissions", True, f"user {user} has what it takes")
    try:
        fix = f"sudo usermod -aG {','.join(missing)} {login_name(agent)}, then log in again"
    except DeviceError as error:
        fix = str(error)
    return Finding("permissions", False, f"user {user} is not in {', '.join(missing)}", fix)


def _free_space(device: Device, name: str, found_mb: float, least_mb: float, word: str) -> Finding:
    ok = found_mb >= least_mb
    detail = f"{found_mb:.0f} MB {word}" + ("" if ok else f", a run wants {least_mb:.0f} MB")
    usual = {"disk": "make room, or set agent: dir to another disk", "memory": "add swap, or use smaller models"}
    return Finding(name, ok, detail, "" if ok else device.fixes.get(name, usual[name]))


def _holder(agent: Agent) -> Finding:
    holder = agent.facts.holder
    if holder is None:
        return Finding("holder", True, "not in use")
    return Finding("holder", True, f"held by {holder}", "a run waits for it: see `lock: wait_s`", warning=True)


def _change(kind: agent_plugins.Kind, name: str) -> str:
    return f"change {agent_plugins.FOLDER}/{kind}/{name}.py beside the inventory, or choose another there"


def _fix(device: Device, step: str) -> str:
    return device.fixes.get(step, "see the board's own log; with PIPELINE_LOG=debug set, this command says more")
