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

from device_agents.power import OddReadingError, SensorError, _rails, _sysfs, number, opens, past_odd, settings

PREFERENCE = 10
_DEFAULTS = {"root": "/sys/bus/i2c/devices", "rail": None, "interval_ms": 20}
_UNCONNECTED = "NC"
_CHANNELS = ("1", "2", "3")
_LOOKS = 3
_MOST_SHUNT_MV, _MOST_MV = 163.6, 32760  # Texas Instruments SBOS576: 163.8 mV in steps of 40 µV, 32.76 V


class Rail(NamedTuple):
    """One rail's files; ``power_mw`` where the driver shows power itself."""

    name: str
    power_mw: Optional[str]
    millivolts: str
    milliamperes: Optional[str]
    most_ma: float = float("inf")
    """Where the chip's current stops at its full scale."""

    def milliwatts(self) -> int:
        """Read its power; SensorError where the chip is at its full scale."""
        if self.power_mw is not None:
            return _sysfs.whole(self.power_mw)
        assert self.milliamperes is not None
        mv, ma = _sysfs.whole(self.millivolts), _sysfs.whole(self.milliamperes)
        if abs(ma) >= self.most_ma or mv >= _MOST_MV:
            raise SensorError("%s overflowed: %d mV and %d mA, the chip shows no more" % (self.name, mv, ma))
        return round(mv * ma / 1e3)


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
    return Ina3221(total, interval_s, chosen["rail"])


class Ina3221:
    """The rails that add up to the module's input."""

    scope = "module"
    dropped = 0

    def __init__(self, rails: List[Rail], interval_s: float, rail: Optional[str] = None) -> None:
        self.source = "ina3221 " + "+".join(rail.name for rail in rails)
        self.interval_s = interval_s
        self._rails = rails
        self._rail = rail
        self._volts: Optional[float] = None
        self._due_s = time.monotonic()

    @past_odd
    def read_w(self) -> float:
        """Wait for the interval's end and return the module's power in watts."""
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        self._due_s = time.monotonic() + self.interval_s
        shown = {rail.name: rail.milliwatts() for rail in self._rails}
        try:
            return _rails.total_w(shown, self._rail)
        except SensorError as error:
            raise OddReadingError(str(error))

    def volts(self) -> Optional[float]:
        """Return the rail's voltage as it is now, or as it was when that cannot be read; None for several rails."""
        if len(self._rails) > 1:
            return None
        try:
            self._volts = _sysfs.whole(self._rails[0].millivolts) / 1e3
        except OddReadingError:
            pass
        return self._volts

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
                    most_ma=_most_ma(_sysfs.text(os.path.join(folder, "shunt%s_resistor" % channel))),
                )
            )
    return rails


def _most_ma(shunt_uohm: Optional[str]) -> float:
    known = shunt_uohm is not None and shunt_uohm.isdigit() and int(shunt_uohm) > 0
    return _MOST_SHUNT_MV * 1e6 / int(shunt_uohm or 0) if known else float("inf")


def _refuse_inconsistent(rails: Dict[str, Rail], rail: Optional[str]) -> None:
    """Raise what ``total_w`` raises; the rails are read one after the other, so one odd look is not enough."""
    for look in range(_LOOKS):
        try:
            _rails.total_w({name: rail.milliwatts() for name, rail in rails.items()}, rail)
            return
        except SensorError:
            if look == _LOOKS - 1:
                raise
