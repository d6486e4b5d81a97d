"""Who is there: the board, this agent, and what it can use; quick, so nothing heavy is imported."""

import grp
import os
import pwd
import sys
from typing import Any, Dict, List, Optional

from device_agents import board, launch, plugins, readings
from device_agents.arguments import Power
from device_agents.digest import sha256
from device_agents.power import preferred
from device_agents.state import HELPER


def facts(folder: str, power: Power) -> Dict[str, Any]:
    """Return the fields of the host's ``DeviceFacts``; the sensor in ``power`` is checked with its options."""
    return dict(
        board.facts(folder),
        agent_sha256=_own_sha256(),
        python=sys.version.split()[0],
        runtimes=_runtimes(),
        sensors=_sensors(power),
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


def _runtimes() -> Dict[str, str]:
    package = "device_agents.runtimes"
    versions = {name: plugins.load(package, name).installed() for name in plugins.names(package)}
    return {name: version for name, version in versions.items() if version is not None}


def _sensors(power: Power) -> Dict[str, str]:
    package = "device_agents.power"
    names = preferred(plugins.names(package))
    return {name: plugins.load(package, name).check(_options(name, power)) for name in names}


def _options(name: str, power: Power) -> Dict[str, Any]:
    return power.options if name == power.backend else {}


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
