"""No exception of paramiko's gets past the boundary."""

from __future__ import annotations

import inspect
import pkgutil
import socket
from importlib import import_module
from typing import Any

import paramiko
import pytest

from pipeline import errors
from pipeline.devices.sessions.ssh_errors import FOREIGN, connecting, talking, translate

INTERNAL = {
    "InvalidHostKey",  # of paramiko's own reader of known_hosts, which we do not use
    "NeedRekeyException",  # caught by paramiko's own thread
}


def raisable() -> list[type[BaseException]]:
    """Every exception class that a module of paramiko defines, and what sockets raise."""
    found: set[type[BaseException]] = {socket.gaierror, TimeoutError, ConnectionResetError, EOFError, BrokenPipeError}
    for module in pkgutil.iter_modules(paramiko.__path__):
        if module.name in ("win_pageant", "win_openssh", "_winapi"):
            continue
        for _, kind in inspect.getmembers(import_module(f"paramiko.{module.name}"), inspect.isclass):
            foreign = issubclass(kind, Exception) and kind.__module__.startswith("paramiko.")
            if foreign and kind.__name__ not in INTERNAL:
                found.add(kind)
    return sorted(found, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", raisable(), ids=lambda kind: kind.__name__)
def test_every_exception_of_paramiko_s_is_caught_at_the_boundary(kind: type[BaseException]) -> None:
    assert issubclass(kind, FOREIGN)


KEY = paramiko.ECDSAKey.generate()


@pytest.mark.parametrize(
    ("raised", "expected", "says"),
    [
        (paramiko.BadHostKeyException("h", KEY, KEY), errors.HostKeyChangedError, "not the trusted one"),
        (paramiko.AuthenticationException("no"), errors.AuthenticationError, "login refused"),
        (paramiko.BadAuthenticationType("no", ["password"]), errors.AuthenticationError, "login refused"),
        (paramiko.PasswordRequiredException("no"), errors.AuthenticationError, "login refused"),
        (paramiko.ssh_exception.IncompatiblePeer("no"), errors.UnreachableError, "no algorithm in common"),
        (paramiko.SFTPError("Garbage"), errors.UnreachableError, "login shell must not print"),
        (socket.gaierror(-2, "Name or service not known"), errors.UnreachableError, "cannot be resolved"),
        (ConnectionRefusedError(), errors.UnreachableError, "is sshd running"),
        (TimeoutError(), errors.UnreachableError, "is the board on"),
        (EOFError(), errors.UnreachableError, "the connection ended (EOFError)"),
        (paramiko.SSHException("Error reading SSH protocol banner"), errors.UnreachableError, "banner"),
    ],
)
def test_what_goes_wrong_on_the_way_in_says_what_to_do(raised: Any, expected: type[Exception], says: str) -> None:
    with pytest.raises(expected) as e, connecting("board (h:22)"):
        raise raised
    assert str(e.value).startswith("board (h:22): ")
    assert says in str(e.value)


def test_the_same_in_the_middle_of_a_session_is_a_lost_session() -> None:
    for raised in (EOFError(), OSError("Socket is closed"), paramiko.SSHException("gone"), TimeoutError()):
        with pytest.raises(errors.SessionLostError), talking("board"):
            raise raised


def test_our_own_errors_pass_unchanged() -> None:
    with pytest.raises(errors.DiskFullError, match="full"), talking("board"):
        raise errors.DiskFullError("full")


def test_an_unknown_reason_is_told_in_the_words_of_the_one_who_raised_it() -> None:
    assert str(translate(OSError("odd"), "board", errors.SessionLostError)) == "board: odd"
