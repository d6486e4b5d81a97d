"""What paramiko, sockets and cryptography raise, translated once into our own errors."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from paramiko import ssh_exception
from paramiko.ber import BERException
from paramiko.pkey import UnknownKeyType
from paramiko.sftp import SFTPError

from pipeline.errors import AuthenticationError, DeviceError, HostKeyChangedError, SessionLostError, UnreachableError

FOREIGN = (ssh_exception.SSHException, SFTPError, BERException, UnknownKeyType, OSError, EOFError)
"""Everything that may come out of a call into paramiko; ``OSError`` covers time-outs, DNS and refused connections."""


@contextlib.contextmanager
def connecting(where: str) -> Iterator[None]:
    """Translate what goes wrong on the way in: nothing was begun yet, so a failure means *unreachable*."""
    try:
        yield
    except FOREIGN as e:
        raise translate(e, where, UnreachableError) from e


@contextlib.contextmanager
def talking(where: str) -> Iterator[None]:
    """Translate what goes wrong in the middle: what was begun may be begun again in a new session."""
    try:
        yield
    except FOREIGN as e:
        raise translate(e, where, SessionLostError) from e


def translate(error: BaseException, where: str, otherwise: type[DeviceError]) -> DeviceError:
    """Return our error for a foreign one; ``otherwise`` is for those that only say that it did not work."""
    if isinstance(error, ssh_exception.BadHostKeyException):
        return HostKeyChangedError(f"{where}: the host key is not the trusted one: {error}")
    if isinstance(error, (ssh_exception.AuthenticationException, UnknownKeyType)):
        return AuthenticationError(f"{where}: login refused: {error}; try `ssh -v` with the same user and key")
    if isinstance(error, ssh_exception.IncompatiblePeer):
        return otherwise(f"{where}: no algorithm in common: {error}; update the SSH server")
    if isinstance(error, SFTPError):
        return otherwise(
            f"{where}: no SFTP: {error}; the server needs `Subsystem sftp`, the login shell must not print"
        )
    return otherwise(f"{where}: {_reason(error)}")


def _reason(error: BaseException) -> str:
    if isinstance(error, socket.gaierror):
        return f"the name cannot be resolved ({error.strerror}); check `host:`"
    if isinstance(error, (ConnectionRefusedError, ssh_exception.NoValidConnectionsError)):
        return "connection refused; is sshd running there, on this port?"
    if isinstance(error, TimeoutError):
        return "no answer in time; is the board on, and on this network?"
    return str(error) or f"the connection ended ({type(error).__name__})"
