"""A virtual board as a user has one: SSH address, host key, inventory entry; and what a run leaves on it."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import new_key

LOOK = """
import json, os, sys
folder = os.path.expanduser(sys.argv[1])
files = {}
for where, _, names in os.walk(folder):
    for name in names:
        path = os.path.join(where, name)
        files[os.path.relpath(path, folder)] = os.path.getsize(path)
agents = []
for pid in os.listdir("/proc"):
    if pid.isdigit():
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as f:
                words = f.read().decode("utf-8", "replace").split(chr(0))
        except OSError:
            continue
        if "--dir" in words and any(w.startswith("/proc/self/fd/") for w in words):  # the agent's checked copy
            agents.append(" ".join(words))
print(json.dumps({"files": files, "agents": agents}))
"""
"""What lies in the agent's folder, and which processes of an agent run."""

DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""Begins the command of a board's first process: even when the tests are killed, no board stays."""

QUOTA_BYTES = 512 * 10**6
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Keys:
    """The board's host key and the user's own, made anew for every board."""

    folder: Path

    @classmethod
    def new(cls, folder: Path) -> Keys:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("host_key", "client_key"):
            new_key(folder / name)
        return cls(folder)

    @property
    def identity(self) -> Path:
        return self.folder / "client_key"

    def line(self, host: str, port: int) -> str:
        """The host key's line for known_hosts."""
        kind, key = (self.folder / "host_key.pub").read_text().split()[:2]
        return f"{host if port == 22 else f'[{host}]:{port}'} {kind} {key}\n"


@dataclass(frozen=True)
class Board:
    """A board behind an sshd that is trusted already."""

    name: str
    kind: str
    host: str
    port: int
    user: str
    keys: Keys
    python: str = "python3"
    agent_dir: str = "~/.cache/pipeline-agent"

    @property
    def known_hosts(self) -> Path:
        path = self.keys.folder / f"known_hosts-{self.host}"
        path.write_text(self.keys.line(self.host, self.port))
        return path

    def entry(self, **settings: Any) -> str:
        """The board's lines of an inventory, below ``devices:``; ``settings`` are more keys of it."""
        ssh = {
            "user": self.user, "port": self.port, "identity_file": str(self.keys.identity),
            "known_hosts": str(self.known_hosts),
        }  # fmt: skip
        given = {
            "kind": self.kind, "host": self.host, "ssh": ssh,
            "agent": {"dir": self.agent_dir, "python": self.python},
        }  # fmt: skip
        merged = {**given, **settings, "ssh": {**ssh, **settings.get("ssh", {})}}
        return f"  {self.name}: {json.dumps(merged)}\n"  # JSON is YAML

    def inventory(self, **settings: Any) -> str:
        """An inventory with this board alone."""
        return "version: 1\ndevices:\n" + self.entry(**settings)

    def run(self, *command: str, stdin: str = "", check: bool = True) -> str:
        """Run a command on the board by OpenSSH's own client; return what it printed."""
        told = ("BatchMode=yes", "IdentitiesOnly=yes", "ConnectTimeout=30", f"UserKnownHostsFile={self.known_hosts}")
        options = [word for option in told for word in ("-o", option)]
        done = subprocess.run(
            [
                *("ssh", "-F", "none", *options, "-i", str(self.keys.identity), "-p", str(self.port)),
                *(f"{self.user}@{self.host}", shlex.join(command)),
            ],
            input=stdin, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout

    def left(self) -> dict[str, Any]:
        """Return the files in the agent's folder with their sizes, and the agents that run."""
        found: dict[str, Any] = json.loads(self.run(self.python, "-", self.agent_dir, stdin=LOOK))
        return found

    def assert_tidy(self) -> None:
        """No process of the agent, no half file, and no more files than the cache may hold."""
        left = self.left()
        assert left["agents"] == []
        assert [name for name in left["files"] if ".part-" in name] == []
        assert any(name.endswith(".pyz") for name in left["files"]), "the agent never was there"
        assert sum(left["files"].values()) <= QUOTA_BYTES
