"""The agent as a child process, spoken to as the host does, and the processes that it may leave behind."""

import functools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

from device_agents import protocol

ANSWER_WITHIN_S = 60.0
"""Longest wait for anything: what is not there by then hangs, however busy the machine is."""


@functools.lru_cache(maxsize=1)
def find_python36() -> str | None:
    """Return a python3.6 that starts, from PATH or pyenv."""
    places = [shutil.which("python3.6"), *map(str, Path("~/.pyenv/versions").expanduser().glob("3.6*/bin/python3.6"))]
    for place in filter(None, places):
        if subprocess.run([place, "-c", "import json"], capture_output=True, check=False).returncode == 0:
            return place
    return None


class Agent:
    """The agent's process, spoken to as the host does: a line out, lines in."""

    def __init__(self, command: list[str], environment: dict[str, str] | None = None, cwd: Path | None = None) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            cwd=cwd,
        )
        self.events: list[dict] = []
        self._partial = b""
        self._number = 0

    def send(self, verb: str, **arguments: object) -> int:
        self._number += 1
        self.send_line(json.dumps({"v": protocol.VERSION, "id": self._number, "verb": verb, **arguments}).encode())
        return self._number

    def send_line(self, line: bytes) -> None:
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def receive(self) -> dict:
        deadline = time.monotonic() + ANSWER_WITHIN_S
        fd = self.process.stdout.fileno()
        while b"\n" not in self._partial:
            assert select.select([fd], [], [], deadline - time.monotonic())[0], "the agent did not answer"
            data = os.read(fd, 1 << 16)
            assert data, f"the agent ended: {self.process.stderr.read().decode()}"
            self._partial += data
        line, _, self._partial = self._partial.partition(b"\n")
        return json.loads(line)

    def reply(self) -> dict:
        """Return the next reply; events on the way are kept."""
        message = self.receive()
        while "event" in message:
            self.events.append(message)
            message = self.receive()
        return message

    def ask(self, verb: str, **arguments: object) -> dict:
        number = self.send(verb, **arguments)
        reply = self.reply()
        assert reply["id"] == number
        return reply

    def result(self, verb: str, **arguments: object) -> dict:
        reply = self.ask(verb, **arguments)
        assert reply["ok"], reply
        return reply["result"]

    def error(self, verb: str, **arguments: object) -> dict:
        reply = self.ask(verb, **arguments)
        assert not reply["ok"], reply
        return reply["error"]

    def close(self) -> int:
        """Close the line and return the exit code."""
        self.process.stdin.close()
        code = self.process.wait(ANSWER_WITHIN_S)
        self.process.stdout.close()
        self.process.stderr.close()
        return code


def descendants(pid: int) -> set[int]:
    """Return every process below ``pid``."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.parent.name)] = int(fields[1])
    found: set[int] = set()
    while True:
        more = {child for child, parent in parents.items() if parent == pid or parent in found} - found
        if not more:
            return found
        found |= more


def running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def eventually(condition, seconds: float = ANSWER_WITHIN_S) -> bool:
    """Wait for ``condition``; return whether it came true."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()
