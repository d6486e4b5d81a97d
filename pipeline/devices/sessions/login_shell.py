"""Login shells: a constant command line that every shell passes on; scripts go over stdin, to ``sh``.

sshd hands a command to the user's login shell, and shells differ in what they make of it: csh takes no newline inside
quotes and expands ``!`` there, fish has backslashes of its own. So scripts and paths are read by a plain ``sh``. What
the shell's rc file prints stands before our own output, with or without a newline; a mark tells the two apart. Nothing
is sent before the mark has come: an rc file may read stdin as well.
"""

from __future__ import annotations

import contextlib
import time

import paramiko

from pipeline.errors import AgentError, ExchangeTimeoutError

MARK = b"pipeline-begins\n"

SCRIPT = "exec sh -c 'echo pipeline-begins; exec sh -s'"
"""Prints the mark and runs the shell script that comes on stdin."""

LINE = "exec sh -c 'echo pipeline-begins; read -r line; eval \"$line\"'"
"""Prints the mark and runs the one line of shell that comes on stdin; what follows is for the program it starts."""

_CHUNK_BYTES = 1 << 16
_KEPT_BYTES = 1 << 20
"""Of each stream, its end."""
_LOOK_S = 0.05
_MOST_BYTES = 32 << 20
"""A login shell that prints more, or in the time at least a page without coming to our command, does so for ever."""
_PAGE_BYTES = 1 << 16


def enter(channel: paramiko.Channel, command: str, seconds: float, name: str) -> bool:
    """Start ``SCRIPT`` or ``LINE``; wait for the mark. Return whether the login shell printed nothing of its own.

    Raises:
        EOFError: the login shell ended before; with what it said.
        ExchangeTimeoutError: it has printed no mark in the time.
        AgentError: it prints without end; ``name`` is the device's.
    """
    channel.exec_command(command)
    return await_mark(channel, seconds, name)


def await_mark(channel: paramiko.Channel, seconds: float, name: str) -> bool:
    """Read past the mark, which the other end follows with nothing before it is sent something; see ``enter``."""
    until = time.monotonic() + seconds
    out, err, count = bytearray(), bytearray(), 0
    while not out.endswith(MARK):
        try:
            got = _read(channel, out, err, until)
        except TimeoutError:
            raise (_endless(name, count, out or err) if count >= _PAGE_BYTES else _silent(name, seconds)) from None
        count += got
        if count > _MOST_BYTES:
            raise _endless(name, count, out or err)
        if not got:
            said = (err or out)[-1000:].decode("utf-8", "replace").strip().splitlines()[-1:] or ["nothing"]
            raise EOFError(said[0])
    return len(out) == len(MARK) and not err


def _read(channel: paramiko.Channel, out: bytearray, err: bytearray, until: float) -> int:
    """Take what has come on either stream, for one whose window is full stops the other; 0 bytes at stdout's end."""
    channel.settimeout(_LOOK_S)
    while time.monotonic() < until:
        if channel.recv_stderr_ready():
            errors = channel.recv_stderr(_CHUNK_BYTES)
            err += errors
            del err[:-_KEPT_BYTES]
            if errors:
                return len(errors)
        with contextlib.suppress(TimeoutError):
            chunk = channel.recv(_CHUNK_BYTES)
            out += chunk
            del out[:-_KEPT_BYTES]
            return len(chunk)
    raise TimeoutError


def _silent(name: str, seconds: float) -> ExchangeTimeoutError:
    return ExchangeTimeoutError(
        f"{name}: the login shell took more than {seconds:g} s; is the board overloaded, or does its rc file wait for"
        " something (~/.bashrc, ~/.profile, /etc/profile)?"
    )


def _endless(name: str, count: int, said: bytearray) -> AgentError:
    return AgentError(
        f"{name}: the board prints without end, {count} bytes and more, before the agent starts: {bytes(said[-80:])!r};"
        " see what its login shell runs (~/.bashrc, ~/.profile, /etc/profile)"
    )
