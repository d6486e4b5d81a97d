"""Missing requirements of a board, as shell commands: printed to be pasted, or run over SSH.

Least privilege: two Unix groups for the sensors, and for power modes one root-owned program with fixed verbs
(``templates/pipeline-board.sh``) beside one sudoers line for it alone. A program that takes a path, such as
tegrastats with its ``--logfile``, never gets such a line: it could write any file as root.
"""

from __future__ import annotations

import hashlib
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from pipeline.devices.agent_client import Agent
from pipeline.devices.diagnostics.check import login_name, missing_groups, runtime_fix, sensor_setup
from pipeline.errors import DeviceError, PythonMissingError
from pipeline.printable import printable, printable_lines
from pipeline.records import Device

HELPER = "/usr/local/sbin/pipeline-board"
SUDOERS = "/etc/sudoers.d/pipeline-board"

PATIENCE_S = 3600.0
"""For the whole script: a board that installs packages from a slow card takes many minutes."""
MOST_OUTPUT_BYTES = 1 << 23
"""Of what a script says; an upgrade of all of a board's packages says less than a megabyte."""

_END = "END_OF_PIPELINE_BOARD"


@dataclass(frozen=True, slots=True)
class Fix:
    """One thing that a board lacks, and the shell lines that bring it."""

    title: str
    commands: tuple[str, ...]
    afterwards: str = ""
    """What a person still has to do."""


def missing_requirements(agent: Agent) -> list[Fix]:
    """Return what this board lacks for what its inventory entry asks of it.

    Raises:
        DeviceError: a command would have to name a user whose name is none.
    """
    return [*_groups(agent), *_sensor(agent), *_runtime(agent), *_helper(agent)]


def missing_python(error: PythonMissingError, device: Device) -> list[Fix]:
    """Return the fix for a board on which the agent cannot even start."""
    return [Fix(str(error).partition("; ")[0], (device.fixes.get("python", "sudo apt-get install -y python3"),))]


def script(fixes: Sequence[Fix], device: Device) -> str:
    """Return the fixes as one shell script with a comment before each; it stops at the first failure.

    Args:
        device: for the title.
    """
    lines = [f"# What {printable(device.name)} lacks; run this on the board, as the user who logs in there.", "set -eu"]
    for number, fix in enumerate(fixes, 1):
        lines += ["", f"# {number}. {printable(fix.title)}", *fix.commands]  # on one line: a comment ends with it
        if fix.afterwards:
            lines.append(f"# Then: {printable(fix.afterwards)}")
    return "\n".join(lines) + "\n"


def run(device: Device, text: str) -> tuple[int, str]:
    """Run a script on the board, or on this machine for a local device; return its exit code and all it said.

    ``sudo`` in it asks for no password, since nobody is there to type one; root, who may have no sudo, needs none.

    Raises:
        DeviceError: the way to the board failed.
    """
    unasked = 'sudo() { if [ "$(id -u)" = 0 ]; then "$@"; else command sudo -n "$@"; fi; }\n'
    content = ("exec 2>&1\n" + unasked + text).encode()  # in one pipe, words keep their order
    if device.ssh is not None:
        return _over_ssh(device, content)
    done = subprocess.run(["sh", "-s"], input=content, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    said = done.stdout.decode("utf-8", "replace")
    return done.returncode, printable_lines(said, len(said))


def may_sudo(device: Device) -> bool:
    """Whether the user on the board becomes root without a password.

    Raises:
        DeviceError: the way to the board failed.
    """
    return run(device, "sudo true\n")[0] == 0


@cache
def helper() -> bytes:
    """Return the root-owned program's text."""
    return (resources.files("pipeline") / "templates" / "pipeline-board.sh").read_bytes()


# ---------------------------------------------------------------- what may be lacking


def _groups(agent: Agent) -> list[Fix]:
    missing = missing_groups(agent)
    if not missing:
        return []
    user = login_name(agent)
    return [
        Fix(
            f"{user} may read the sensor: joins {', '.join(missing)}",
            (f"sudo usermod -aG {','.join(missing)} {user}",),
            "log in again; groups count from the next login on",
        )
    ]


def _sensor(agent: Agent) -> list[Fix]:
    """What the sensor's own file says; no command wires a board: of that, `devices doctor` says what is wrong."""
    step = sensor_setup(agent, agent.power_backend)
    if step is None or not _is_command(step.command):
        return []
    return [Fix(step.title or f"the sensor {agent.power_backend} can be read", (step.command,))]


def _runtime(agent: Agent) -> list[Fix]:
    command, facts = runtime_fix(agent.device), agent.facts
    if agent.device.runtime in {*facts.runtimes, *facts.broken_runtimes} or not _is_command(command):
        return []
    return [Fix(f"the runtime {agent.device.runtime} is installed", (command,))]


def _helper(agent: Agent) -> list[Fix]:
    """The helper that sets power modes, where modes are wanted and the user is not root."""
    wanted = [mode for mode, value in agent.device.modes.items() if value is not None and value is not False]
    current = hashlib.sha256(helper()).hexdigest()
    if not wanted or agent.facts.user == "root" or agent.facts.helper == current:
        return []
    user = login_name(agent)
    line = shlex.quote(f"{user} ALL=(root) NOPASSWD: {HELPER}")
    new_helper, new_line = f"{HELPER}.new", "/etc/sudoers.d/.pipeline-board.new"
    return [
        Fix(
            f"power modes ({', '.join(wanted)}): a root-owned program with fixed verbs, which {user} may run as root",
            (
                f"sudo tee {new_helper} >/dev/null <<'{_END}'",
                helper().decode().rstrip("\n"),
                _END,
                f"sudo chown root:root {new_helper}",
                f"sudo chmod 0755 {new_helper}",
                f"sudo mv -f {new_helper} {HELPER}",
                "# sudo reads no file with a dot in its name: this one counts when it was checked and renamed",
                f"echo {line} | sudo tee {new_line} >/dev/null",
                f"sudo chmod 0440 {new_line}",
                f"sudo visudo -cqf {new_line} || {{ sudo rm -f {new_line}; exit 1; }}",
                f"sudo mv -f {new_line} {SUDOERS}",
            ),
        )
    ]


def _is_command(text: str) -> bool:
    """Whether a fix can be run: one that only advises is a comment or no shell line at all."""
    return bool(text) and not text.lstrip().startswith("#")


def _over_ssh(device: Device, content: bytes) -> tuple[int, str]:
    from pipeline.devices.sessions.deadline import output_of, within
    from pipeline.devices.sessions.ssh_connection import connect  # paramiko takes its time to import
    from pipeline.devices.sessions.ssh_errors import talking

    assert device.ssh is not None, "the caller looked"
    link = connect(device.ssh, device.name)
    try:
        with talking(device.name), within(link, PATIENCE_S, device.name, "the script"):
            channel = link.transport.open_session(timeout=device.ssh.connect_timeout_s)
            channel.set_combine_stderr(True)
            channel.exec_command("exec sh -s")
            channel.sendall(content)
            channel.shutdown_write()
            said = output_of(channel, device.name, MOST_OUTPUT_BYTES)[0].decode("utf-8", "replace")
            code = channel.recv_exit_status()
    finally:
        link.close()
    if code < 0:
        raise DeviceError(f"{device.name}: the connection broke before the script ended; run `devices doctor` to see")
    return code, printable_lines(said, len(said))
