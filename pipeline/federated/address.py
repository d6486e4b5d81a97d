"""Addresses of a federation's server, and when the way there has to be encrypted."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from pipeline import regular_file
from pipeline.errors import ConfigError, OutputError

_MOST_PEM_BYTES = 1024**2
_LOOPBACK = ("localhost", "ip6-localhost")


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as it is typed."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host in _LOOPBACK


def address_of(text: str) -> Address:
    """Return the address that a text names.

    Raises:
        ConfigError: it names none.

    >>> str(address_of("[::1]:8080")), address_of("lab:8080").host
    ('[::1]:8080', 'lab')
    >>> address_of("localhost:8080").is_loopback, address_of("10.0.0.7:8080").is_loopback
    (True, False)
    """
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"{text}: expected HOST:PORT, such as 127.0.0.1:8080")
    return Address(host, int(port))


def require_encrypted(address: Address, *, is_encrypted: bool, insecure: bool, option: str) -> None:
    """Refuse to send weights in clear beyond this machine, unless that was asked for.

    Raises:
        ConfigError: says which option encrypts.
    """
    if not (is_encrypted or insecure or address.is_loopback):
        raise ConfigError(
            f"{address} is reached over a network, where weights would travel in clear: give {option}, or, where the "
            "network itself is encrypted, --insecure"
        )


def require_free(address: Address) -> None:
    """Refuse an address that nobody can listen on.

    Raises:
        OutputError: another program does, or it is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address.host, address.port))
    except OSError as error:
        raise OutputError(
            f"nobody can listen on {address}: {error.strerror or error}; choose another --address"
        ) from error


def read_pem(path: Path) -> bytes:
    """Return a certificate's or key's file.

    Raises:
        ConfigError: it cannot be read, or is no PEM file.
    """
    try:
        content = regular_file.read_bytes(path, _MOST_PEM_BYTES)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    if b"-----BEGIN " not in content:
        raise ConfigError(f"{path} is not a PEM file: expected -----BEGIN CERTIFICATE----- or a key")
    return content
