"""OpenSSH's client configuration of one host, with ``Include`` followed and every ``Match`` criterion understood.

paramiko looks settings up as OpenSSH does, but it follows no ``Include``, and it takes a ``Match`` criterion that it
does not know for one that matches. So the files are joined into one text for it. That text is for one host: whether an
``Include`` inside a ``Host`` or ``Match`` block counts, and whether a ``Match exec`` passes, depends on the host.
"""

from __future__ import annotations

import getpass
import glob
import os
import re
import shlex
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paramiko.config import SSHConfig
from paramiko.ssh_exception import SSHException

from pipeline import regular_file
from pipeline.errors import InventoryError

MOST_DEEP = 16
"""OpenSSH's own limit, READCONF_MAX_DEPTH of its readconf.c."""
EXEC_S = 10.0
"""For the command of a ``Match exec``."""

_EVERY, _NEVER = "Host *", "Host !*"
_ALONE = ("all", "canonical", "final")
_PATTERNS = ("host", "originalhost", "user", "localuser")
_ACTIVE = "pipelineactive"
_LINE = re.compile(r"(\w+)(?:\s*=\s*|\s+)(\S.*)")
_RAW = ("proxycommand", "localcommand", "remotecommand", "knownhostscommand")
"""Keywords whose value is a command to the line's end: a ``#`` in it begins no comment."""


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What the configuration says of one host."""

    values: Mapping[str, Any]
    """By keyword in lower case, in the order in which they were first set; ProxyCommand still holds its tokens."""
    names: frozenset[str]
    """Aliases that the configuration names, patterns among them."""


class _Config(SSHConfig):
    TOKENS_BY_CONFIG_KEY = {**SSHConfig.TOKENS_BY_CONFIG_KEY, "proxycommand": []}  # noqa: RUF012 - paramiko's own


def read(file: Path, host: str) -> HostSettings:
    """Return what ``file``, and all that it includes, says of ``host``.

    Raises:
        InventoryError: a file cannot be read or understood; says which, and in which line.
    """
    joined = _Joined(host)
    joined.add(file, _EVERY, 0)
    try:
        return HostSettings(joined.lookup(), frozenset(joined.names))
    except (SSHException, ValueError, KeyError, OSError) as e:
        raise InventoryError(f"{file}: cannot work out the settings of {host!r}: {e}") from e


def expand(text: str, tokens: Mapping[str, str]) -> str:
    """Replace ``%h`` and the like; ``%%`` is a percent sign.

    >>> expand("nc %h %p 100%%", {"h": "pi", "p": "22"})
    'nc pi 22 100%'

    Raises:
        InventoryError: a token that is not among ``tokens``.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise InventoryError(f"ssh config: %{match[1]} in {text!r} is not known; known: %{' %'.join(known)}")
        return known[match[1]]

    known = {**tokens, "%": "%"}
    return re.sub(r"%(.?)", value, text)


class _Joined:
    """The lines that paramiko gets, and the block that the last of them stands in."""

    def __init__(self, host: str) -> None:
        self.names: set[str] = set()
        self._host = host
        self._lines: list[str] = []

    def add(self, file: Path, block: str, depth: int) -> None:
        """Add a file that is included within ``block``; its first lines belong to that block."""
        if depth > MOST_DEEP:
            raise InventoryError(f"{file}: included more than {MOST_DEEP} deep; does a file include itself?")
        for where, keyword, value in _settings(file):
            if keyword == "include":
                self._include(where, value, block, depth)
            elif keyword == "host":
                block = f"Host {value}"
                self.names.update(_words(where, value))
                self._lines.append(block)
            elif keyword == "match":
                block = self._match(where, value)
                self._lines.append(block)
            else:
                self._lines.append(f"{keyword} {value}")

    def lookup(self, *more: str) -> dict[str, Any]:
        """Return what the lines so far, and ``more``, say of the host."""
        return dict(_Config.from_text("\n".join([*self._lines, *more])).lookup(self._host))

    def _include(self, where: str, value: str, block: str, depth: int) -> None:
        if not self._holds(block, where):
            return
        for word in _words(where, value):
            pattern = Path("~/.ssh").expanduser() / Path(word).expanduser()
            for path in sorted(glob.glob(str(pattern))):  # noqa: PTH207 - Path.glob takes no whole path
                if not Path(path).is_dir():
                    self._lines.append(block)
                    self.add(Path(path), block, depth + 1)
        self._lines.append(block)

    def _holds(self, block: str, where: str) -> bool:
        """Tell whether a block is one for this host, as things stand at this line."""
        try:
            return _ACTIVE in self.lookup(block, f"{_ACTIVE} yes")
        except (SSHException, ValueError, KeyError, OSError) as e:
            raise InventoryError(f"{where}: {e}") from e

    def _match(self, where: str, value: str) -> str:
        """Return a ``Match`` line's block in criteria that paramiko knows; OpenSSH takes names in any case."""
        criteria: list[str] = []
        words = list(_words(where, value))
        while words:
            written, equals, pattern = words.pop(0).partition("=")
            negated, name = written.startswith("!"), written.removeprefix("!").lower()
            if name in _ALONE:
                criteria.append("!" * negated + name)
                continue
            if not equals:
                if not words:
                    raise InventoryError(f"{where}: Match {name} lacks its value")
                pattern = words.pop(0)
            if name in _PATTERNS:
                criteria += ["!" * negated + name, pattern]
                self.names.update(pattern.split(",") if name in ("host", "originalhost") and not negated else ())
            elif not self._holds(_match_line(criteria), where):
                return _NEVER  # as in OpenSSH, what stands behind a criterion that fails is not looked at
            elif name != "exec":
                raise InventoryError(
                    f"{where}: `Match {name}` is not supported; `ssh: {{config: FILE}}` names a config without it"
                )
            elif self._passes(where, pattern) == negated:
                return _NEVER
        return _match_line(criteria)

    def _passes(self, where: str, command: str) -> bool:
        """Run the command of a ``Match exec``; tell whether it ended well."""
        found = self.lookup()
        user, host = getpass.getuser(), socket.gethostname()
        tokens = {
            "h": str(found["hostname"]), "n": self._host, "p": str(found.get("port", 22)), "d": str(Path.home()),
            "r": str(found.get("user", user)), "u": user, "L": host.partition(".")[0], "l": host,
        }  # fmt: skip
        shell = [os.environ.get("SHELL") or "/bin/sh", "-c", expand(command, tokens)]
        quiet = subprocess.DEVNULL
        try:
            return subprocess.run(shell, stdin=quiet, stdout=quiet, stderr=quiet, timeout=EXEC_S).returncode == 0
        except (OSError, subprocess.TimeoutExpired) as e:
            raise InventoryError(f"{where}: Match exec: {e}") from e


def _match_line(criteria: list[str]) -> str:
    if "all" in criteria and len(criteria) > 1 and set(criteria) <= set(_ALONE):
        criteria = [
            name for name in criteria if name != "all"
        ]  # which says no more there; paramiko refuses `final all`
    return f"Match {shlex.join(criteria)}" if criteria else _EVERY


def _settings(file: Path) -> Iterator[tuple[str, str, str]]:
    """Yield where each setting stands, its keyword in lower case, and its value."""
    try:
        text = regular_file.read_bytes(file, regular_file.SETTINGS_BYTES).decode("utf-8", "surrogateescape")
    except OSError as e:
        raise InventoryError(f"{file}: cannot be read as an OpenSSH config: {e.strerror}") from e
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _LINE.fullmatch(stripped)
        if not match:
            raise InventoryError(f"{file}:{number}: cannot be read as an OpenSSH config: {stripped!r} lacks a value")
        keyword = match[1].lower()
        yield f"{file}:{number}", keyword, match[2] if keyword in _RAW else _without_comment(match[2])


def _without_comment(value: str) -> str:
    """Return a value without the comment behind it.

    >>> _without_comment("pi # the one in the lab"), _without_comment('"a #1" b#2')
    ('pi', '"a #1" b#2')
    """
    found = re.match(r'(?:"[^"]*"|[^"#]|(?<=\S)#|")*', value)
    return found[0].rstrip() if found else value


def _words(where: str, value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError as e:
        raise InventoryError(f"{where}: {e} in {value!r}") from e
