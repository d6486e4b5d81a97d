"""Intel's and AMD's energy counters: what the processor's package draws, by the kernel's powercap files.

Each package has a zone ``intel-rapl:N`` whose ``energy_uj`` counts microjoules and starts again from zero past
``max_energy_range_uj`` (https://docs.kernel.org/power/powercap/powercap.html). Several packages are added up.
"""

import glob
import os
import time
from typing import Any, Dict, List, Optional

from device_agents.power import OddReadingError, SensorError, _sysfs, number, opens, past_odd, settings

PREFERENCE = 50
SETUP = [
    {
        "when": "kernels keep it for root",
        "title": "the processor's energy counter may be read",
        "command": "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj  # until the next boot",
    }
]
_DEFAULTS = {"root": "/sys/class/powercap", "interval_ms": 50}
_STILL_S = 1.0  # a counter that has not moved for so long does not count
_PERMISSION = (
    "cannot read %s: kernels keep it for root since CVE-2020-8694. Until the next boot: sudo chmod a+r %s. For good, "
    "and for one group only: sudo groupadd -f power-meter; sudo usermod -aG power-meter $USER; echo "
    '\'SUBSYSTEM=="powercap", ACTION=="add", RUN+="/bin/chgrp power-meter /sys%%p/energy_uj", '
    'RUN+="/bin/chmod g+r /sys%%p/energy_uj"\' | sudo tee /etc/udev/rules.d/60-rapl.rules'
)


def check(options: Dict[str, Any]) -> str:
    """Say whether the counters are there and readable."""
    return opens(open, options)


def open(options: Dict[str, Any]) -> "Rapl":
    """Find the packages and read each counter once."""
    chosen = settings(options, _DEFAULTS)
    interval_s = number(chosen, "interval_ms", 10, 10000) / 1e3
    zones = [Zone(path) for path in _packages(str(chosen["root"]))]
    if not zones:
        raise SensorError("no package zone under %s: this processor or virtual machine has no RAPL" % chosen["root"])
    return Rapl(zones, interval_s)


class Zone:
    """One package's counter."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._range_uj = self._read("max_energy_range_uj")
        self._last_uj = self._read("energy_uj")

    def now_uj(self) -> int:
        """Return where the counter stands."""
        return self._read("energy_uj")

    def advance_uj(self, now_uj: Optional[int] = None) -> int:
        """Return the microjoules counted since the last call, until now or until the counter stood at ``now_uj``."""
        now_uj = self.now_uj() if now_uj is None else now_uj
        counted = now_uj - self._last_uj
        self._last_uj = now_uj
        return counted if counted >= 0 else counted + self._range_uj

    def _read(self, name: str) -> int:
        path = os.path.join(self._path, name)
        try:
            return int(_text(path))
        except PermissionError:
            raise SensorError(_PERMISSION % (path, path))
        except OSError as error:
            raise _sysfs.failure(path, error)
        except ValueError:
            raise OddReadingError("cannot read the counter %s: it holds no number" % path)


class Rapl:
    """Mean power of all packages over each interval."""

    source = "rapl"
    scope = "package"
    dropped = 0

    def __init__(self, zones: List[Zone], interval_s: float) -> None:
        self.interval_s = interval_s
        self._zones = zones
        self._last_s = time.monotonic()
        self._due_s = self._last_s + interval_s

    @past_odd
    def read_w(self) -> float:
        """Wait for the interval to end and the counter to move; return the mean power since the last call, in watts."""
        counted_uj, now_s = 0, self._last_s
        while not counted_uj:
            if now_s - self._last_s > _STILL_S:
                raise SensorError("the RAPL counter stands still: this processor or virtual machine does not count")
            time.sleep(max(0.0, self._due_s - time.monotonic()))
            self._due_s = time.monotonic() + self.interval_s
            stands = [zone.now_uj() for zone in self._zones]  # all, or none: what one counted must not be lost
            counted_uj = sum(zone.advance_uj(uj) for zone, uj in zip(self._zones, stands))
            now_s = time.monotonic()
        elapsed_s, self._last_s = now_s - self._last_s, now_s
        return counted_uj / 1e6 / elapsed_s

    def close(self) -> None:
        """Nothing is held open between two reads."""


def _packages(root: str) -> List[str]:
    zones = sorted(glob.glob(os.path.join(glob.escape(root), "intel-rapl:*")))
    return [zone for zone in zones if zone.count(":") == root.count(":") + 1 and _is_package(zone)]


def _is_package(zone: str) -> bool:
    """Whether the zone is a processor's package; ``psys``, the platform's, would count the packages twice."""
    try:
        return _text(os.path.join(zone, "name")).startswith("package")
    except OSError:
        return False


def _text(path: str) -> str:
    with os.fdopen(os.open(path, os.O_RDONLY), "r") as file:
        return file.read().strip()
