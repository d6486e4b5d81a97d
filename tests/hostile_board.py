"""Boards that do harm, behind a real sshd: what every login runs, or what runs in the agent's place."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.devices.agent_client import Agent, open_agent
from pipeline.devices.sessions import Session, Zipapp, open_session
from pipeline.devices.sessions.discovery import MARK
from pipeline.devices.sessions.login_shell import MARK as MARK_OF_SHELL
from pipeline.records import Device


@dataclass(frozen=True)
class Attack:
    """What a board does, and what the host says of it."""

    words: str
    said: str
    """A pattern of the error's sentence."""
    source: str
    """A Python program; as the agent, it has read the first request."""
    as_shell: bool = False
    """It is what every login runs, from the first look at the board on."""

    def lines(self, folder: Path) -> tuple[str, ...]:
        """Return the lines for the config of an sshd that runs it at every login."""
        if not self.as_shell:
            return ()
        file = folder / "shell.py"
        file.write_text(self.source)
        return (f"ForceCommand exec {sys.executable} {file}",)

    def meet(self, device: Device) -> Agent:
        """Open the agent on a device that does it."""
        evil = None if self.as_shell else program(self.source)

        def opening(device: Device, zipapp: Zipapp) -> Session:
            return open_session(device, evil or zipapp)

        return open_agent(device, opening=opening)


def program(source: str) -> Zipapp:
    """Return a zipapp that runs ``source`` in the agent's place."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py"), source)
    return Zipapp.of(packed.getvalue())


EVIL = "'\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202egnp.exe\\r\\n[red]$(reboot)'"
"""A Python literal of all that a terminal, Rich and a shell would take for more than words."""
_TALK = """
import json, sys, time
out = sys.stdout.buffer
def write(data): out.write(data); out.flush()
def reply(**what): write(json.dumps(dict(what, v=2, id=1)).encode() + b'\\n')
facts = dict(agent_sha256='', python='3', machine='m', board='b', kernel='k', cpu='c', cores=4, simd='neon',
             memory_mb=1.0, disk_free_mb=1.0, runtimes={}, sensors={})
"""


_BEGUN = f"write({MARK_OF_SHELL!r}); sys.stdin.readline()"
"""As if the login shell had passed our command on."""


def _shell(words: str, said: str, source: str) -> Attack:
    return Attack(f"login: {words}", said, f"{_TALK}{source}\ntime.sleep(99)\n", as_shell=True)


def _files(words: str, said: str, source: str) -> Attack:
    """Let everything through but SFTP."""
    honest = "if 'sftp' not in (what := os.environ['SSH_ORIGINAL_COMMAND']): os.execv('/bin/sh', ['sh', '-c', what])"
    return Attack(f"files: {words}", said, f"import os\n{_TALK}{honest}\n{source}\ntime.sleep(99)\n", as_shell=True)


def _agent(words: str, said: str, source: str) -> Attack:
    return Attack(f"agent: {words}", said, f"{_TALK}sys.stdin.readline()\n{source}\ntime.sleep(99)\n")


_ENDLESS = "prints without end"
_LATE = "took more than|no answer from the agent within"
_FLOODED = f"{_ENDLESS}|{_LATE}"
"""A machine at its limit may not get through the flood before the deadline."""
_NONSENSE = "makes no sense"

ATTACKS: tuple[Attack, ...] = (
    _shell("one endless line", _FLOODED, "while True: write(b'x' * 65536)"),
    _shell("endless lines", _FLOODED, "while True: write(b'welcome\\n' * 8192)"),
    _shell("endless errors", _FLOODED, "while True: sys.stderr.write('no\\n' * 9999)"),
    _shell("a byte now and then", _LATE, "while True: write(b'x'); time.sleep(0.2)"),
    _shell("silence", _LATE, ""),
    _shell("paths that are none", _NONSENSE, f"{_BEGUN}; print({MARK!r} + json.dumps(dict(python='/x\\n; reboot', "
           "folder='here', sha256=7, problem=None, errno=0, free=-9))); sys.exit()"),
    _shell("a number of 5000 digits", _NONSENSE,
           f"{_BEGUN}; print({MARK!r} + '{{\"free\":' + '9' * 5000 + '}}'); sys.exit()"),
    _shell("a nested answer", _NONSENSE, f"{_BEGUN}; print({MARK!r} + '[' * 500000); sys.exit()"),
    _shell("escape sequences", "ended with 3 and said", f"sys.stderr.write({EVIL}); sys.exit(3)"),
    _files("silence", _LATE, ""),
    _files("a byte now and then", "no SFTP|took more than", "while True: write(b'\\0'); time.sleep(0.2)"),
    _files("one endless packet", "no SFTP|took more than", "while True: write(b'\\0\\xff\\xff\\xff' * 9999)"),
    _files("garbage", "no SFTP: Garbage", "write(b'x' * 99)"),
    _agent("one endless line", f"without a newline|{_LATE}", "while True: write(b'{' + b'x' * 65536)"),
    _agent("endless lines", _FLOODED, "while True: write(b'hello\\n' * 8192)"),
    _agent("endless foreign ids", _FLOODED, "while True: write(b'{\"v\":2,\"id\":99,\"ok\":true,\"result\":{}}\\n')"),
    _agent("endless events", _FLOODED,
           "while True: write(b'{\"v\":2,\"id\":1,\"event\":\"progress\",\"stage\":\"x\",\"seconds\":1}\\n')"),
    _agent("endless errors", _LATE, "while True: sys.stderr.write('no\\n' * 9999)"),
    _agent("a byte now and then", _LATE, "while True: write(b'{'); time.sleep(0.2)"),
    _agent("a line now and then", _LATE, "while True: write(b'x\\n'); time.sleep(0.2)"),
    _agent("a foreign id now and then", _LATE,
           "while True: write(b'{\"v\":2,\"id\":99,\"ok\":true,\"result\":{}}\\n'); time.sleep(0.2)"),
    _agent("silence", _LATE, ""),
    _agent("a nested answer", _NONSENSE, "write(b'{\"v\":2,\"id\":1,\"ok\":true,\"result\":' + b'[' * 99999 + b'\\n')"),
    _agent("80,000 empty lists", _NONSENSE,
           "write(b'{\"v\":2,\"id\":1,\"ok\":true,\"result\":[' + b'[],' * 80000 + b'0]}\\n')"),
    _agent("a number of 5000 digits", _NONSENSE,
           "write(b'{\"v\":2,\"id\":1,\"ok\":true,\"result\":{\"cores\":' + b'9' * 5000 + b'}}\\n')"),
    _agent("impossible facts", _NONSENSE, "reply(ok=True, result=dict(facts, memory_mb=-1e308, cores=0))"),
    _agent("a strange user and board", "another agent answered",
           f"reply(ok=True, result=dict(facts, user={EVIL}, board={EVIL}))"),
    _agent("escape sequences", "gnp", f"reply(ok=False, error=dict(kind='internal', message={EVIL} * 9))"),
    _agent("escapes at its end", "gnp", f"sys.stderr.write({EVIL} * 999); sys.exit(1)"),
    _agent("a message of 200 kB", "AAA…", "reply(ok=False, error=dict(kind='internal', message='A' * 200000))"),
    _agent("another version", "version 3, expected 2", "write(b'{\"v\":3,\"id\":1,\"ok\":true,\"result\":{}}\\n')"),
)  # fmt: skip

BY_WORDS: Mapping[str, Attack] = {attack.words: attack for attack in ATTACKS}
