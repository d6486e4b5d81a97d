"""Who is there: the board, this agent, and what it can use; quick, so nothing heavy is imported."""

import grp
import os
import pwd
import sys
from typing import Any, Dict, List, Optional, Tuple

from device_agents import board, launch, plugins, power, readings
from device_agents.arguments import Power
from device_agents.digest import sha256
from device_agents.errors import AgentError
from device_agents.state import HELPER

_RUNTIMES, _SENSORS = "device_agents.runtimes", "device_agents.power"


def facts(folder: str, wanted: Power) -> Dict[str, Any]:
    """Return the fields of the host's ``DeviceFacts``; the sensor in ``wanted`` is checked with its options."""
    runtimes, broken = _runtimes()
    return dict(
        board.facts(folder),
        agent_sha256=_own_sha256(),
        python=sys.version.split()[0],
        runtimes=runtimes,
        broken_runtimes=broken,
        sensors=_sensors(wanted),
        user=_user(),
        groups=_groups(),
        helper=_helper_sha256(),
    )


def _own_sha256() -> str:
    """Return the zipapp's digest, nothing when the agent runs from a folder."""
    path = launch.zipapp()
    return "" if path is None else _sha256(path)


def _helper_sha256() -> Optional[str]:
    """Return the digest of the root-owned helper, None where it is not installed."""
    try:
        return _sha256(os.path.join(readings.ROOT, HELPER))
    except OSError:
        return None


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return sha256(file.read()).hexdigest()


def _runtimes() -> Tuple[Dict[str, str], Dict[str, str]]:
    """Return the runtimes that are installed, each with its version, and those whose file fails, each with why."""
    versions: Dict[str, str] = {}
    broken: Dict[str, str] = {}
    for name in plugins.names(_RUNTIMES):
        try:
            version = plugins.call(_RUNTIMES, name, "installed")
            if version is not None:
                versions[name] = str(version)
        except AgentError as error:
            broken[name] = str(error)
    return versions, broken


def _sensors(wanted: Power) -> Dict[str, str]:
    """Return every sensor, the preferred first, with what its check says or how that fails."""
    names = sorted(plugins.names(_SENSORS), key=lambda name: (_preference(name), name))
    return {name: _state(name, wanted.options if name == wanted.backend else {}) for name in names}


def _preference(name: str) -> int:
    try:
        return int(getattr(plugins.load(_SENSORS, name), "PREFERENCE", power.UNPREFERRED))
    except AgentError:
        return power.UNPREFERRED


def _state(name: str, options: Dict[str, Any]) -> str:
    try:
        state = plugins.call(_SENSORS, name, "check", options)
    except AgentError as error:
        return str(error)
    return state if isinstance(state, str) else "power/%s.py: check returned %.100r, expected a text" % (name, state)


def _user() -> Optional[str]:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return None


def _groups() -> List[str]:
    names = []
    for number in sorted(set(os.getgroups() + [os.getgid()])):
        try:
            names.append(grp.getgrgid(number).gr_name)
        except KeyError:
            names.append(str(number))
    return names
