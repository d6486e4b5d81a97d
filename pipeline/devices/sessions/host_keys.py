"""Host keys: which are trusted, whether the one shown is among them, and the one place that writes a new one.

Files are OpenSSH's known_hosts format, read line by line: a line that cannot be understood concerns nobody else.
(paramiko's own HostKeys drops the whole file on one bad line and writes back less than it read.)
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fnmatch
import hashlib
import hmac
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline import regular_file
from pipeline.errors import HostKeyChangedError, HostKeyUnknownError
from pipeline.records import SshAddress


@dataclass(frozen=True, slots=True)
class HostKey:
    """A public key that a host shows, as known_hosts writes it."""

    host: str
    """``host``, or ``[host]:port`` away from port 22."""
    type: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` prints it.

        >>> HostKey("h", "ssh-ed25519", b"").fingerprint
        'SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU'
        """
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def line(self) -> str:
        """The line for known_hosts."""
        return f"{self.host} {self.type} {base64.b64encode(self.blob).decode()}"


def host_name(address: SshAddress) -> str:
    """Return the name under which known_hosts keeps an address.

    >>> host_name(SshAddress(host="pi")), host_name(SshAddress(host="pi", port=2222))
    ('pi', '[pi]:2222')
    """
    return address.host if address.port == 22 else f"[{address.host}]:{address.port}"


def hops(address: SshAddress) -> list[SshAddress]:
    """Return every host on the way, the first to be reached first, the device last."""
    return [*(hops(address.jump) if address.jump else ()), address]


def known(address: SshAddress) -> list[HostKey]:
    """Return the keys that any of the address's files trusts for it."""
    return [key for key, marker in _entries(address) if not marker]


def verify(address: SshAddress, key: HostKey, name: str) -> None:
    """Return if ``key`` is the pinned one, or without a pin one that is trusted.

    Raises:
        HostKeyUnknownError: no key was ever trusted for this host.
        HostKeyChangedError: another one was, or this one is revoked.
    """
    shown = f"{name}: the host {key.host} shows the {key.type} key {key.fingerprint}"
    if address.host_key_sha256:
        if key.fingerprint != address.host_key_sha256:
            raise HostKeyChangedError(f"{shown}, but host_key_sha256 pins {address.host_key_sha256}; {_BEWARE}")
        return
    if (key, "@revoked") in _entries(address):
        raise HostKeyChangedError(f"{shown}, which is marked @revoked; the host needs a new key")
    trusted = known(address)
    if key in trusted:
        return
    if trusted:
        old = " or ".join(sorted({k.fingerprint for k in trusted}))
        raise HostKeyChangedError(f"{shown}, but trusted is {old}; {_BEWARE} `pipeline devices trust {name}`")
    raise HostKeyUnknownError(
        f"{shown}, never trusted so far; compare it on the board (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub),"
        f" then: pipeline devices trust {name}"
    )


def store(path: Path, key: HostKey, *, replace: bool = False) -> None:
    """Write ``key`` into our own known_hosts, mode 0600, all or nothing; every other line stays as it is.

    Raises:
        HostKeyChangedError: another key is there for this host, and ``replace`` was not asked for.
    """
    lines = _lines(path)
    here = [k for k, marker in _matching(lines, key.host) if not marker]
    if key in here and not replace:
        return
    if here and not replace:
        raise HostKeyChangedError(
            f"{path} trusts {here[0].fingerprint} for {key.host}, not {key.fingerprint}; replace it only if the board"
            " was set up anew"
        )
    kept = [rest for line in lines if (rest := _without(line, key.host)) is not None]
    _write(path, [*kept, key.line])


_BEWARE = "someone may be intercepting the connection, or the board was set up anew: then"


def _entries(address: SshAddress) -> list[tuple[HostKey, str]]:
    files = [Path(f) for f in (address.known_hosts, *address.more_known_hosts) if f]
    return [entry for file in files for entry in _matching(_lines(file), host_name(address))]


def _lines(path: Path) -> list[str]:
    if str(path) == os.devnull:  # what OpenSSH's config names for none
        return []
    try:
        return regular_file.read_bytes(path, regular_file.LIST_BYTES).decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HostKeyUnknownError(
            f"the trusted host keys in {path} cannot be read: {error.strerror}; move it away, or choose another file: "
            "ssh: known_hosts in inventory.yaml"
        ) from error


def _matching(lines: Iterable[str], host: str) -> Iterator[tuple[HostKey, str]]:
    """Yield the keys that ``lines`` give ``host``, each with its marker or nothing."""
    for line in lines:
        marker, names, rest = _split(line)
        if len(rest) < 2 or marker == "@cert-authority" or not _is_for(names, host):
            continue
        with contextlib.suppress(binascii.Error, ValueError):
            yield HostKey(host, rest[0], base64.b64decode(rest[1], validate=True)), marker


def _split(line: str) -> tuple[str, str, list[str]]:
    """Split a line into marker, host names and the rest; a comment has no names."""
    words = line.split()
    if not words or words[0].startswith("#"):
        return "", "", []
    marker = words.pop(0) if words[0].startswith("@") else ""
    return marker, words[0] if words else "", words[1:]


def _is_for(names: str, host: str) -> bool:
    """Tell whether the first column of a line means ``host``: plain, with wildcards, negated or hashed.

    >>> _is_for("pi,10.0.0.*", "10.0.0.7"), _is_for("*,!pi", "pi"), _is_for("[pi]:22", "pi")
    (True, False, False)
    """
    if names.startswith("|1|"):
        return _is_hash_of(names, host)
    patterns = [p.replace("[", "[[]") for p in names.lower().split(",")]  # OpenSSH knows * and ?, no [...]
    if any(p.startswith("!") and fnmatch.fnmatchcase(host.lower(), p[1:]) for p in patterns):
        return False
    return any(fnmatch.fnmatchcase(host.lower(), p) for p in patterns)


def _is_hash_of(names: str, host: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part) for part in names.split("|")[2:4])
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.new(salt, host.encode(), "sha1").digest(), digest)


def _without(line: str, host: str) -> str | None:
    """Return ``line`` less ``host``; None when nothing of it remains."""
    marker, names, _ = _split(line)
    if not names or marker or not _is_for(names, host):
        return line
    others = [n for n in names.split(",") if n.lower() != host.lower()]
    return line.replace(names, ",".join(others), 1) if others and not names.startswith("|") else None


def _write(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".known_hosts-")  # mkstemp makes it 0600
    with os.fdopen(handle, "w") as f:
        f.writelines(f"{line}\n" for line in lines)
    Path(temporary).replace(path)
