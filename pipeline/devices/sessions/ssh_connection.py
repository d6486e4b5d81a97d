"""A logged-in SSH connection: strict host keys everywhere, by key or SSH agent only.

The way leads through TCP, jump hosts or a proxy command.
"""

from __future__ import annotations

import contextlib
import getpass
import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import paramiko
from paramiko.ssh_exception import AuthenticationException

from pipeline import regular_file
from pipeline.devices.sessions import host_keys
from pipeline.devices.sessions.host_keys import HostKey
from pipeline.devices.sessions.proxy_command import ProxyCommand
from pipeline.devices.sessions.ssh_errors import connecting
from pipeline.errors import AuthenticationError, UnreachableError
from pipeline.records import SshAddress

# Without a handler of its own, paramiko's tracebacks reach the user's terminal through logging's last resort.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

KEEPALIVE_S = 15
DEAD_LINK_S = 60
"""Sent bytes unacknowledged for so long end the connection; a cable that was out for less goes unnoticed."""

_USUAL_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")


@dataclass(frozen=True, slots=True)
class Link:
    """An SSH transport and what carries it: jump hosts, a proxy command, or TCP alone."""

    transport: paramiko.Transport
    via: Link | ProxyCommand | None = None

    def close(self) -> None:
        """Close this connection and those that carry it."""
        with contextlib.suppress(OSError, EOFError):
            self.transport.close()
        if self.via:
            self.via.close()


def connect(address: SshAddress, name: str) -> Link:
    """Connect, check the host key, log in; ``name`` is the device's, for messages.

    Raises:
        UnreachableError, HostKeyUnknownError, HostKeyChangedError, AuthenticationError: each says of which host.
    """
    link = _greet(address, name)
    try:
        host_keys.verify(address, _shown(link, address), name)
        with connecting(_where(address, name)):
            _login(link.transport, address, _where(address, name))
        link.transport.set_keepalive(KEEPALIVE_S)
    except BaseException:
        link.close()
        raise
    return link


def fetch_host_key(address: SshAddress, name: str) -> HostKey:
    """Return the key that a host shows, without logging in; the jump hosts before it must be trusted already."""
    link = _greet(address, name)
    try:
        return _shown(link, address)
    finally:
        link.close()


def _greet(address: SshAddress, name: str) -> Link:
    """Reach the host and agree on a cipher: as far as one gets without trust."""
    where = _where(address, name)
    via = _carrier(address, name)
    try:
        with connecting(where):
            transport = paramiko.Transport(_dial(address, via))
            try:
                _prefer_known_keys(transport, address)
                transport.banner_timeout = address.connect_timeout_s
                transport.start_client(timeout=address.connect_timeout_s)
                if not transport.initial_kex_done:  # paramiko returns all the same
                    raise TimeoutError
            except BaseException:
                transport.close()
                raise
    except BaseException as e:
        if via:
            via.close()
        if isinstance(via, ProxyCommand) and isinstance(e, UnreachableError):
            raise UnreachableError(
                f"{where}: ProxyCommand `{via.command}` leads to no SSH server: {via.said or e}"
            ) from e
        raise
    return Link(transport, via)


def _carrier(address: SshAddress, name: str) -> Link | ProxyCommand | None:
    """Return what leads to a host that is not dialled itself."""
    if address.jump:
        return connect(address.jump, name)
    if address.proxy_command:
        with connecting(_where(address, name)):
            return ProxyCommand(address.proxy_command)
    return None


def _dial(address: SshAddress, via: Link | ProxyCommand | None) -> socket.socket | paramiko.Channel:
    if isinstance(via, ProxyCommand):
        return via.socket
    if via:
        target = (address.host, address.port)
        return via.transport.open_channel("direct-tcpip", target, ("127.0.0.1", 0), timeout=address.connect_timeout_s)
    sock = socket.create_connection((address.host, address.port), address.connect_timeout_s)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_LINK_S * 1000)
    return sock


def _prefer_known_keys(transport: paramiko.Transport, address: SshAddress) -> None:
    """Ask for a key of a type that is trusted; a server has several, and another type would look like a change."""
    types = [k.type for k in host_keys.known(address)]
    wanted = [t for known in types for t in (("rsa-sha2-512", "rsa-sha2-256") if known == "ssh-rsa" else (known,))]
    options = transport.get_security_options()
    offered = list(options.key_types)
    first = [t for t in dict.fromkeys(wanted) if t in offered]
    options.key_types = tuple(first + [t for t in offered if t not in first])


def _shown(link: Link, address: SshAddress) -> HostKey:
    key = link.transport.get_remote_server_key()
    return HostKey(host_keys.host_name(address), key.get_name(), key.asbytes())


def _login(transport: paramiko.Transport, address: SshAddress, where: str) -> None:
    user = address.user or getpass.getuser()
    transport.auth_timeout = max(30.0, address.connect_timeout_s)
    tried = []
    with contextlib.closing(paramiko.Agent()) as agent:
        for origin, key in _keys(address, agent, where):
            tried.append(origin)
            with contextlib.suppress(AuthenticationException):
                if missing := transport.auth_publickey(user, key):
                    raise AuthenticationError(f"{where}: a key alone does not log in, the server also wants {missing}")
                return
            if not transport.is_active():  # MaxAuthTries
                raise AuthenticationError(f"{where}: the server hung up after {len(tried)} keys; set identity_file")
    offered = ", ".join(tried) or "no key: there is none in ~/.ssh and none in an SSH agent"
    raise AuthenticationError(
        f"{where}: the user {user!r} was refused (offered {offered}); check ssh: user, or put your key there:"
        f" ssh-copy-id -p {address.port} {user}@{address.host}"
    )


def _keys(address: SshAddress, agent: paramiko.Agent, where: str) -> Iterator[tuple[str, paramiko.PKey]]:
    """Yield the keys to offer: the one named and no other, else those of the SSH agent, then the usual files."""
    if address.identity_file:
        yield address.identity_file, _named_key(Path(address.identity_file), agent, where)
        return
    for key in agent.get_keys():
        yield f"agent:{key.get_name()}", key
    for name in _USUAL_KEYS:
        file = Path.home() / ".ssh" / name
        with contextlib.suppress(OSError, ValueError, TypeError):  # missing, unreadable, with a passphrase
            yield str(file), _key(file)


def _named_key(file: Path, agent: paramiko.Agent, where: str) -> paramiko.PKey:
    """Read a private key; one with a passphrase is looked up in the SSH agent by its public half."""
    try:
        return _key(file)
    except OSError as e:
        raise AuthenticationError(f"{where}: cannot read the key {file}: {e.strerror}; check identity_file") from e
    except TypeError as e:  # what cryptography raises for a passphrase that is not given
        if key := _in_agent(agent, file.with_name(file.name + ".pub")):
            return key
        raise AuthenticationError(f"{where}: the key {file} has a passphrase; load it first: ssh-add {file}") from e
    except (ValueError, paramiko.SSHException) as e:
        raise AuthenticationError(f"{where}: {file} is no private key; check identity_file") from e


def _key(file: Path) -> paramiko.PKey:
    """Read a private key from a regular file: paramiko would wait for a pipe."""
    with regular_file.opened(file, regular_file.SETTINGS_BYTES):
        return paramiko.PKey.from_path(file)


def _in_agent(agent: paramiko.Agent, public: Path) -> paramiko.PKey | None:
    try:
        blob = regular_file.read_text(public).split()[1:2]
    except (OSError, UnicodeDecodeError):
        return None
    return next((k for k in agent.get_keys() if [k.get_base64()] == blob), None)


def _where(address: SshAddress, name: str) -> str:
    return f"{name} ({address.host}:{address.port})"
