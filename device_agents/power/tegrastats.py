"""NVIDIA's tegrastats, which prints a Jetson module's rails: no root, no library.

The line's grammar differs by board and JetPack; one tolerant parser reads them all. The first number of a rail is its
present power. The second is the mean since tegrastats started, useless for a window. Lines of JetPack 4 carry no time,
so the reader stamps them itself.
"""

import os
import re
import select
import shutil
import subprocess
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from device_agents.power import SensorError, number, settings

_DEFAULTS = {"rail": None, "interval_ms": 20, "command": "tegrastats"}
_PATIENCE_S = 3.0
_PLACEHOLDER_C = -256.0  # the zone is switched off

_TOTALS = ("POM_5V_IN", "VDD_IN")
"""Rails that are the module's input: Nano; TX1, TX2, Xavier NX, Orin Nano and NX."""
_SUMS = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier
)
"""Boards without such a rail: those that add up to the input."""

_RAIL = re.compile(r"(?<!\S)([A-Z][A-Z0-9_]*) +(\d+)(?:mW)?(?:/\d+(?:mW)?){1,2}(?!\S)")
_TEMPERATURE = re.compile(r"(?<!\S)([A-Za-z][\w-]*)@(-?\d+(?:\.\d+)?)C(?:/-?\d+(?:\.\d+)?C)?(?!\S)")
_CPU = re.compile(r"(?<!\S)CPU +\[([^\]]*)\]")
_CORE = re.compile(r"(\d+)%@(\d+)")
_GR3D = re.compile(r"(?<!\S)GR3D_FREQ +(\d+)%")


class Reading(NamedTuple):
    """One line of tegrastats."""

    rails_mw: Dict[str, int]
    temperatures_c: Dict[str, float]
    cores: List[Optional[Tuple[int, int]]]
    """Load in percent and clock in MHz of each core, None for one that is off."""
    gpu_percent: Optional[int]


def parse(line: str) -> Reading:
    """Read one line of any generation; what the line does not say is left out.

    >>> parse("RAM 9/99MB CPU [7%@204,off] GR3D_FREQ 3%@76 PMIC@100C CPU@30.5C POM_5V_IN 1800/1750").rails_mw
    {'POM_5V_IN': 1800}
    """
    rails = {name: int(present) for name, present in _RAIL.findall(line) if name != "NC"}
    zones = {name: float(celsius) for name, celsius in _TEMPERATURE.findall(line)}
    cpu = _CPU.search(line)
    gpu = _GR3D.search(line)
    return Reading(
        rails_mw=rails,
        temperatures_c={name: c for name, c in zones.items() if name.upper() != "PMIC" and c > _PLACEHOLDER_C},
        cores=[_core(text) for text in cpu.group(1).split(",")] if cpu else [],
        gpu_percent=int(gpu.group(1)) if gpu else None,
    )


def total_w(rails_mw: Dict[str, int], rail: Optional[str] = None) -> float:
    """Return the module's power in watts: of ``rail``, else of the input rail, else the sum that stands for it.

    Raises:
        SensorError: no such rail; no known total; or a part above the total, as on carriers that mislabel rails.
    """
    names = _total_names(rails_mw, rail)
    missing = [name for name in names if name not in rails_mw]
    if missing:
        raise SensorError("tegrastats shows no rail %s; it shows %s" % (missing[0], ", ".join(rails_mw) or "none"))
    total = sum(rails_mw[name] for name in names)
    if rail is None and len(names) == 1:
        for name, part in rails_mw.items():
            if part > total:
                raise SensorError(
                    "rail %s shows %d mW, more than the input %s with %d mW: this carrier labels its rails wrongly; "
                    "find the input and name it with the option rail" % (name, part, names[0], total)
                )
    return total / 1e3


def check(options: Dict[str, Any]) -> str:
    """Say whether tegrastats is installed."""
    try:
        _program(settings(options, _DEFAULTS))
    except SensorError as error:
        return str(error)
    return "ok"


def open(options: Dict[str, Any]) -> "Tegrastats":
    """Start tegrastats and read its first line, so that a missing rail is known at once."""
    chosen = settings(options, _DEFAULTS)
    interval_s = number(chosen, "interval_ms", 5, 10000) / 1e3
    sensor = Tegrastats(_program(chosen), interval_s, chosen["rail"])
    try:
        sensor.read_w()
    except SensorError:
        sensor.close()
        raise
    return sensor


class Tegrastats:
    """A tegrastats of our own; only this very process is ended, since ``--stop`` would stop anybody's."""

    scope = "module"

    def __init__(self, program: str, interval_s: float, rail: Optional[str]) -> None:
        self.source = "tegrastats" + (" " + rail if rail else "")
        self.interval_s = interval_s
        self._rail = rail
        self._partial = b""
        self._process = subprocess.Popen(
            [program, "--interval", str(round(interval_s * 1e3))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self._process.stdout
        self._fd = self._process.stdout.fileno()

    def read_w(self) -> float:
        """Wait for the next line and return its power; of several that have gathered, the newest."""
        line = self._newest_line()
        reading = parse(line)
        if not reading.rails_mw:
            raise SensorError("tegrastats shows no power on this board: %r" % line[:200])
        return total_w(reading.rails_mw, self._rail)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()

    def _newest_line(self) -> str:
        deadline = time.monotonic() + max(_PATIENCE_S, 5 * self.interval_s)
        while b"\n" not in self._partial or self._waiting(0):
            if not self._waiting(deadline - time.monotonic()):
                raise SensorError("tegrastats printed nothing for %.0f s: it hangs; reboot the board" % _PATIENCE_S)
            data = os.read(self._fd, 1 << 16)
            if not data:
                raise SensorError("tegrastats ended by itself: %s" % self._last_words())
            self._partial += data
        lines, _, self._partial = self._partial.rpartition(b"\n")
        return lines.split(b"\n")[-1].decode("utf-8", "replace")

    def _waiting(self, seconds: float) -> bool:
        return bool(select.select([self._fd], [], [], max(0.0, seconds))[0])

    def _last_words(self) -> str:
        return self._partial[-200:].decode("utf-8", "replace").strip() or "it printed nothing"


def _core(text: str) -> Optional[Tuple[int, int]]:
    match = _CORE.match(text.strip())
    return (int(match.group(1)), int(match.group(2))) if match else None


def _total_names(rails_mw: Dict[str, int], rail: Optional[str]) -> Tuple[str, ...]:
    if rail is not None:
        return (rail,)
    for total in _TOTALS:
        if total in rails_mw:
            return (total,)
    for parts in _SUMS:
        if set(parts) <= set(rails_mw):
            return parts
    raise SensorError(
        "no rail of %s is known as the module's input: name it with the option rail" % (", ".join(rails_mw) or "none")
    )


def _program(chosen: Dict[str, Any]) -> str:
    found = shutil.which(str(chosen["command"]))
    if not found:
        raise SensorError("%s is not there: it comes with JetPack, on Jetson boards only" % chosen["command"])
    return found
