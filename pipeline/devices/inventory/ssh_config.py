"""Where a device really is: the inventory's own words first, then OpenSSH's config, then the defaults."""

from __future__ import annotations

import dataclasses
import getpass
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs

from pipeline.devices.inventory import openssh_config
from pipeline.devices.inventory.openssh_config import HostSettings
from pipeline.errors import InventoryError
from pipeline.records import SshAddress
from pipeline.regular_file import exists, home_expanded

DEFAULT_CONFIG = "~/.ssh/config"
OPENSSH_KNOWN_HOSTS = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")

_ADDRESS = re.compile(
    r"^(?:(?P<user>[^@\s]+)@)?(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:@\s]+|[0-9a-fA-F:]+))(?::(?P<port>\d+))?$"
)


def default_known_hosts() -> Path:
    """Return our own file of trusted host keys; it may not exist yet."""
    return Path(platformdirs.user_config_dir("pipeline")) / "known_hosts"


def known_to_ssh(alias: str, config: str | None) -> bool:
    """Tell whether OpenSSH's config names ``alias`` itself, not just by a pattern."""
    return alias in _read(config, alias).names


def resolve(written: str, settings: Mapping[str, Any]) -> SshAddress:
    """Return the address behind ``written``: an alias of OpenSSH's config, a host, or ``user@host:port``.

    ``settings`` are the ``ssh:`` keys that the inventory sets; they beat OpenSSH's.

    Raises:
        InventoryError: the address or OpenSSH's config cannot be understood.
    """
    config = settings.get("config")
    jump = settings.get("jump")
    address = _address(written, settings, config)
    return _through(address, jump, settings, config) if jump else address


def _read(path: str | None, host: str) -> HostSettings:
    file = home_expanded(path or DEFAULT_CONFIG)
    if not exists(file):
        if path:
            raise InventoryError(f"ssh.config: no such file: {file}")
        return HostSettings({"hostname": host}, frozenset())
    return openssh_config.read(file, host)


def _address(written: str, settings: Mapping[str, Any], config: str | None, depth: int = 0) -> SshAddress:
    """Resolve one host, and the jump hosts or the proxy command that OpenSSH's config gives it."""
    if depth > 8:
        raise InventoryError(f"ssh config: the ProxyJump of {written!r} never ends; does a host jump through itself?")
    user, host, port = _parts(written)
    found = _read(config, host).values
    name = str(found.get("hostname", host))
    address = SshAddress(
        host=name,
        port=settings.get("port") or port or _port(found.get("port", "22"), host),
        user=settings.get("user") or user or found.get("user"),
        identity_file=_identity(settings, found),
        known_hosts=str(home_expanded(settings.get("known_hosts") or default_known_hosts())),
        more_known_hosts=_more_known_hosts(found),
        host_key_sha256=settings.get("host_key_sha256"),
        connect_timeout_s=settings.get("connect_timeout_s", 10.0),
        retries=settings.get("retries", 3),
    )
    way, proxy = _proxy(found)
    if settings.get("jump") or proxy.lower() == "none":
        return address
    if way == "proxycommand":
        return dataclasses.replace(address, proxy_command=_command(proxy, address, host))
    own = proxy in (host, name)  # `Host *` with a ProxyJump covers the jump host as well
    return address if own else _through(address, proxy, settings, config, depth + 1)


def _proxy(found: Mapping[str, Any]) -> tuple[str, str]:
    """Return ProxyJump or ProxyCommand, whichever is set first, if only to none: the other one does not count then."""
    way = next((key for key in found if key in ("proxycommand", "proxyjump")), "proxyjump")
    value = found.get(way)
    return way, "none" if value is None else str(value)


def _command(proxy: str, address: SshAddress, alias: str) -> str:
    user = address.user or getpass.getuser()
    return openssh_config.expand(proxy, {"h": address.host, "n": alias, "p": str(address.port), "r": user})


def _through(
    address: SshAddress, jump: str, settings: Mapping[str, Any], config: str | None, depth: int = 0
) -> SshAddress:
    """Return ``address`` behind the comma-separated chain ``jump``, the nearest hop to us first."""
    shared = {k: v for k, v in settings.items() if k in ("known_hosts", "connect_timeout_s", "retries")}
    via: SshAddress | None = None
    for hop in jump.split(","):
        here = _address(hop.strip(), shared, config, depth)
        via = dataclasses.replace(here, jump=via or here.jump)
    return dataclasses.replace(address, jump=via)


def _parts(written: str) -> tuple[str | None, str, int | None]:
    """Split ``user@host:port``.

    >>> _parts("pi@192.168.1.20:2222"), _parts("nano"), _parts("[::1]:22")
    (('pi', '192.168.1.20', 2222), (None, 'nano', None), (None, '::1', 22))
    """
    match = _ADDRESS.fullmatch(written.removeprefix("ssh://"))
    if not match or int(match["port"] or 1) not in range(1, 65536):
        raise InventoryError(f"cannot read the address {written!r}; write host, user@host or user@host:port")
    return match["user"], match["v6"] or match["host"], int(match["port"]) if match["port"] else None


def _port(written: object, host: str) -> int:
    try:
        port = int(str(written))
    except ValueError:
        port = 0
    if port not in range(1, 65536):
        raise InventoryError(f"ssh config: the port of {host!r} is {written!r}, expected a number from 1 to 65535")
    return port


def _identity(settings: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """Return the key file to use: the one written, or the first of OpenSSH's that exists."""
    if settings.get("identity_file"):
        return str(home_expanded(settings["identity_file"]))
    files = [home_expanded(f) for f in found.get("identityfile", []) if f.lower() != "none"]
    return str(next((f for f in files if exists(f)), files[0])) if files else None


def _more_known_hosts(found: Mapping[str, Any]) -> tuple[str, ...]:
    files = str(found["userknownhostsfile"]).split() if "userknownhostsfile" in found else OPENSSH_KNOWN_HOSTS
    return tuple(str(home_expanded(f)) for f in files if f != "none")
