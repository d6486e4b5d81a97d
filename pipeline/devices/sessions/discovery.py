"""Board discovery: which Python runs, where the agent's folder is, whether the agent is there.

Runs before there is an agent, so it is a few lines of shell around a few lines of Python 3.6, in one script.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from importlib import resources
from typing import Annotated

from pydantic import Field, ValidationError

from pipeline.answers.answer import Record, in_words
from pipeline.answers.fields import Text
from pipeline.errors import AgentError, DiskFullError, PythonMissingError
from pipeline.records import Device

PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(15, 5, -1)), "/usr/bin/python3", "/usr/local/bin/python3")
"""What ``python: auto`` tries, in this order."""

MARK = "pipeline-probe:"
"""Begins the answer."""

_NO_PYTHON = 127
_SAID_CHARACTERS = 500

_SCRIPT = """
program=$1; folder=$2; agent=$3; shift 3
for python in "$@"; do
  case "$python" in "~/"*) python="$HOME/${python#??}";; esac
  command -v "$python" >/dev/null 2>&1 || continue
  "$python" -c "import sys; sys.exit(sys.version_info < (3, 6))" </dev/null >/dev/null 2>&1 || continue
  exec "$python" -c "$program" "$folder" "$agent"
done
exit 127
"""

_LOOK = """
import hashlib, json, sys
folder = os.path.expanduser(sys.argv[1])
found = {"python": sys.executable, "folder": folder, "sha256": None, "problem": None, "errno": 0, "free": -1}
def ordinary(path):
    return not os.path.lexists(path) or stat.S_ISREG(os.lstat(path).st_mode) and os.lstat(path).st_size < MOST

try:
    secure(folder)
    secure(os.path.join(folder, "files"))
    disk = os.statvfs(folder)
    found["free"] = disk.f_bavail * disk.f_frsize
    agent = os.path.join(folder, sys.argv[2])
    if os.path.isdir(agent) and not os.path.islink(agent):
        os.rename(agent, agent + ".part-%d" % os.getpid())
    elif not ordinary(agent):
        os.remove(agent)
    elif os.path.exists(agent):
        with open(agent, "rb") as f:
            found["sha256"] = hashlib.sha256(f.read()).hexdigest()
except FolderError as e:
    found.update(problem=str(e))
except OSError as e:
    found.update(problem=e.strerror, errno=e.errno)
print("MARK" + json.dumps(found))
""".replace("MARK", MARK).replace("MOST", str(16 * 10**6))
_PROGRAM = (resources.files("device_agents") / "folder.py").read_text("utf-8") + _LOOK

Path = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^/[^\x00-\x1f\x7f]*$")]
"""Absolute, and nothing in it that would end a line."""

_DISK_FULL = (28, 122)
"""ENOSPC and EDQUOT as Linux on the board numbers them."""


class Answer(Record):
    """What the few lines of Python print."""

    python: Path
    folder: Path
    sha256: str | None = Field(pattern="^[0-9a-f]{64}$")
    problem: Text | None = None
    errno: int | None = Field(default=0, ge=0, le=4096)
    free: int = Field(default=-1, ge=-1, le=2**63)


@dataclass(frozen=True, slots=True)
class Board:
    """What the probe found."""

    python: str
    folder: str
    """Absolute; it and ``files`` in it exist."""
    agent_sha256: str | None
    free_bytes: int


def script(device: Device, agent: str) -> str:
    """Return the shell script that probes."""
    return f"set -- {shlex.join([_PROGRAM, device.agent_dir, agent, *_candidates(device)])}{_SCRIPT}"


def parse(device: Device, status: int, out: str, err: str) -> Board:
    """Read the probe's answer.

    Raises:
        PythonMissingError: no python ran; names what was tried.
        DiskFullError: the agent's folder could not be made for lack of room.
        AgentError: it could not be made for another reason, or the answer makes no sense.
    """
    _, mark, answer = out.rpartition(MARK)
    if not mark:
        if status == _NO_PYTHON:
            fix = device.fixes.get("python", "sudo apt-get install -y python3")
            tried = ", ".join(_candidates(device))
            raise PythonMissingError(f"{device.name}: no Python 3.6 or newer there; tried {tried}; install one: {fix}")
        said = (err or out)[-_SAID_CHARACTERS:].strip().splitlines()[-1:] or ["nothing"]
        raise AgentError(f"{device.name}: the board's shell ended with {status} and said {said[0]!r}")
    found = _answer(device, answer.partition("\n")[0])
    if found.problem:
        kind = DiskFullError if found.errno in _DISK_FULL else AgentError
        raise kind(f"{device.name}: cannot use the agent's folder {found.folder}: {found.problem}; set agent: dir")
    return Board(found.python, found.folder, found.sha256, found.free)


def free_bytes(out: str) -> int:
    r"""Return what ``df -Pk FOLDER`` says is free; 0 where it says nothing of the kind.

    >>> free_bytes("Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/root 100 90 10 90% /\n")
    10240
    """
    columns = (out.strip().splitlines() or [""])[-1].split()
    return int(columns[3]) * 1024 if len(columns) > 3 and columns[3].isdecimal() and len(columns[3]) < 20 else 0


def _answer(device: Device, text: str) -> Answer:
    try:
        return Answer.model_validate_json(text)
    except ValidationError as e:
        raise AgentError(f"{device.name}: the board's answer to the first look makes no sense: {in_words(e)}") from None


def _candidates(device: Device) -> tuple[str, ...]:
    return PYTHONS if device.python == "auto" else (device.python,)
