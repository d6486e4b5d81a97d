"""A Jetson's own INA3221 by the kernel's files: the rails that tegrastats prints, without a program in between.

JetPack 4's driver shows each rail's power (NVIDIA's ina3221x, an iio device: rail_name_0, in_power0_input in mW,
in_voltage0_input in mV). JetPack 5's and later show voltage and current (hwmon: in1_label, in1_input in mV,
curr1_input in mA; a channel 7 that is a sum, and NC for a channel that is not connected). How often the chip converts
is set in the board's device tree and shown nowhere, so ``interval_ms`` is how often it is looked at; whether that
gives new values is for the meter's test to find out.
"""

import glob
import os
import re
import time
from typing import Any, Dict, List, NamedTuple, Optional

from device_agents.power import SensorError, _rails, _sysfs, number, opens, settings

_DEFAULTS = {"root": "/sys/bus/i2c/devices", "rail": None, "interval_ms": 20}
_UNCONNECTED = "NC"
_CHANNELS = ("1", "2", "3")
_LOOKS = 3


class Rail(NamedTuple):
    """One rail's files; ``power_mw`` where the driver shows power itself."""

    name: str
    power_mw: Optional[str]
    millivolts: str
    milliamperes: Optional[str]

    def milliwatts(self) -> int:
        """Read its power."""
        if self.power_mw is not None:
            return _sysfs.whole(self.power_mw)
        assert self.milliamperes is not None
        return round(_sysfs.whole(self.millivolts) * _sysfs.whole(self.milliamperes) / 1e3)


def check(options: Dict[str, Any]) -> str:
    """Say whether the rails are there, one is known as the input, and it can be read."""
    return opens(open, options)


def open(options: Dict[str, Any]) -> "Ina3221":
    """Find the rails and read each once or more, so that a mislabelled one is known at once."""
    chosen = settings(options, _DEFAULTS)
    interval_s = number(chosen, "interval_ms", 1, 10000) / 1e3
    rails = find(str(chosen["root"]))
    if not rails:
        raise SensorError("no INA3221 under %s: the chip is on Jetson modules only" % chosen["root"])
    _refuse_inconsistent(rails, chosen["rail"])
    total = [rails[name] for name in _rails.total_names(rails, chosen["rail"])]
    return Ina3221(total, interval_s)


class Ina3221:
    """The rails that add up to the module's input."""

    scope = "module"

    def __init__(self, rails: List[Rail], interval_s: float) -> None:
        self.source = "ina3221 " + "+".join(rail.name for rail in rails)
        self.interval_s = interval_s
        self._rails = rails
        self._due_s = time.monotonic()

    def read_w(self) -> float:
        """Wait for the interval's end and return the module's power in watts."""
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        self._due_s = time.monotonic() + self.interval_s
        return sum(rail.milliwatts() for rail in self._rails) / 1e3

    def volts(self) -> Optional[float]:
        """Return the first rail's voltage as it is now; None where several rails make the total."""
        return _sysfs.whole(self._rails[0].millivolts) / 1e3 if len(self._rails) == 1 else None

    def close(self) -> None:
        """Nothing is held open between two reads."""


def find(root: str) -> Dict[str, Rail]:
    """Return every rail of every INA3221, by name."""
    rails: List[Rail] = []
    for device in sorted(glob.glob(os.path.join(glob.escape(root), "*"))):
        name = _sysfs.text(os.path.join(device, "name"))
        if name == "ina3221x":
            rails += _jetpack4(device)
        elif name == "ina3221":
            rails += _jetpack5(device)
    return {rail.name: rail for rail in rails if rail.name != _UNCONNECTED}


def _jetpack4(device: str) -> List[Rail]:
    rails = []
    for path in sorted(glob.glob(os.path.join(glob.escape(device), "iio:device*", "rail_name_[0-9]"))):
        folder, channel = os.path.dirname(path), path[-1]
        rails.append(
            Rail(
                name=_sysfs.text(path) or _UNCONNECTED,
                power_mw=os.path.join(folder, "in_power%s_input" % channel),
                millivolts=os.path.join(folder, "in_voltage%s_input" % channel),
                milliamperes=None,
            )
        )
    return rails


def _jetpack5(device: str) -> List[Rail]:
    rails = []
    for path in sorted(glob.glob(os.path.join(glob.escape(device), "hwmon", "hwmon*", "in*_label"))):
        channel = re.findall(r"in(\d+)_label$", path)[0]
        if channel in _CHANNELS:
            folder = os.path.dirname(path)
            rails.append(
                Rail(
                    name=_sysfs.text(path) or _UNCONNECTED,
                    power_mw=None,
                    millivolts=os.path.join(folder, "in%s_input" % channel),
                    milliamperes=os.path.join(folder, "curr%s_input" % channel),
                )
            )
    return rails


def _refuse_inconsistent(rails: Dict[str, Rail], rail: Optional[str]) -> None:
    """Raise what ``total_w`` raises; the rails are read one after the other, so one odd look is not enough."""
    for look in range(_LOOKS):
        try:
            _rails.total_w({name: rail.milliwatts() for name, rail in rails.items()}, rail)
            return
        except SensorError:
            if look == _LOOKS - 1:
                raise
