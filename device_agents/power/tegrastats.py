"""NVIDIA's tegrastats, which prints a Jetson module's rails: no root, no library.

The line's grammar differs by board and JetPack; one tolerant parser reads them all. The first number of a rail is its
present power. The second is the mean since tegrastats started, useless for a window. Lines of JetPack 4 carry no time,
so the reader stamps them itself.

A line may be cut off, or mixed with what the program says on stderr, and now and then one rail is converted a moment
before another, so that a part reads above its input. Such lines are dropped. Whether the carrier labels its rails
wrongly is judged when the sensor is opened, over several lines.

The program is watched: one that dies is started once more, and the time between shows as a gap in the samples; one
that dies again or hangs is an error. It cannot outlive the process that reads it.
"""

import os
import re
import select
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from device_agents import programs
from device_agents.power import OddReadingError, SensorError, _rails, number, opens, past_odd, settings

PREFERENCE = 20
_DEFAULTS = {"rail": None, "interval_ms": 20, "command": "tegrastats"}
_PATIENCE_S = 3.0
_MOST_RESTARTS = 1
_LOOKS = 5  # lines, where the first one is odd
_MOST_BYTES = 1 << 16
_PLACEHOLDER_C = -256.0  # the zone is switched off

_RAIL = re.compile(r"(?<!\S)([A-Z][A-Z0-9_]*) +(-?\d+)(?:mW)?(?:/-?\d+(?:mW)?){1,2}(?!\S)")
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
    shown = {(name, int(present)) for name, present in _RAIL.findall(line)}
    names = [name for name, _ in shown]
    rails = {name: mw for name, mw in shown if name != "NC" and names.count(name) == 1}  # twice: two lines in one
    zones = {name: float(celsius) for name, celsius in _TEMPERATURE.findall(line)}
    cpu = _CPU.search(line)
    gpu = _GR3D.search(line)
    return Reading(
        rails_mw=rails,
        temperatures_c={name: c for name, c in zones.items() if name.upper() != "PMIC" and c > _PLACEHOLDER_C},
        cores=[_core(text) for text in cpu.group(1).split(",")] if cpu else [],
        gpu_percent=int(gpu.group(1)) if gpu else None,
    )


def check(options: Dict[str, Any]) -> str:
    """Say whether tegrastats runs here and shows the module's power."""
    return opens(open, options)


def open(options: Dict[str, Any]) -> "Tegrastats":
    """Start tegrastats and read its first line, so that a missing rail is known at once."""
    chosen = settings(options, _DEFAULTS)
    interval_s = number(chosen, "interval_ms", 5, 10000) / 1e3
    found = programs.find(str(chosen["command"]))
    if not found:
        raise SensorError("%s is not there: it comes with JetPack, on Jetson boards only" % chosen["command"])
    sensor = Tegrastats(found, interval_s, chosen["rail"])
    try:
        sensor.begin()
    except SensorError:
        sensor.close()
        raise
    return sensor


class Tegrastats:
    """A tegrastats of our own; only this very process is ended, since ``--stop`` would stop anybody's."""

    scope = "module"
    dropped = 0

    def __init__(self, program: str, interval_s: float, rail: Optional[str]) -> None:
        self.source = "tegrastats" + (" " + rail if rail else "")
        self.interval_s = interval_s
        self._command = [program, "--interval", str(round(interval_s * 1e3))]
        self._rail = rail
        self._total: Tuple[str, ...] = ()
        self._with_unit = False
        self._restarts = 0
        self._start()

    def begin(self) -> None:
        """Learn which rails make the total: from the first line, or where that is odd, from most of several.

        Raises:
            SensorError: most lines show no power, no total, or a part above it.
        """
        good: List[str] = []
        complaints: List[SensorError] = []
        while len(good) < (_LOOKS // 2 + 1 if complaints else 1):
            if len(complaints) > _LOOKS // 2:
                raise complaints[-1]
            try:
                line = self._newest_line()
            except SensorError as error:
                raise complaints[-1] if complaints else error
            try:
                self._judge(line)
                good.append(line)
            except SensorError as error:
                complaints.append(error)
        self._total = _rails.total_names(parse(good[-1]).rails_mw, self._rail)
        self._with_unit = _has_unit(good[-1])

    @past_odd
    def read_w(self) -> float:
        """Wait for the next line and return its power; of several that have gathered, the newest."""
        line = self._next_line()
        rails_mw = parse(line).rails_mw
        if not set(self._total) <= set(rails_mw):
            raise OddReadingError("tegrastats shows %s no more: %r" % ("+".join(self._total), line[:200]))
        if _has_unit(line) != self._with_unit:
            raise OddReadingError("tegrastats writes its numbers in another unit than before: %r" % line[:200])
        try:
            return _rails.total_w(rails_mw, self._rail)
        except SensorError as error:
            raise OddReadingError(str(error))

    def _judge(self, line: str) -> None:
        rails_mw = parse(line).rails_mw
        if not rails_mw:
            raise SensorError("tegrastats shows no power on this board: %r" % line[:200])
        _rails.total_w(rails_mw, self._rail)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()

    def _start(self) -> None:
        from device_agents.processes import output_of  # not above: hello loads every sensor, and has to be quick

        self._partial = b""
        self._process = output_of(self._command)
        assert self._process.stdout
        self._fd = self._process.stdout.fileno()

    def _next_line(self) -> str:
        """Return the newest line; start a tegrastats that died once more."""
        while True:
            try:
                return self._newest_line()
            except EndedError:
                if self._restarts == _MOST_RESTARTS:
                    raise
                self._restarts += 1
                self.close()
                self._start()

    def _newest_line(self) -> str:
        """Return the last whole line of those that have come; a rest without a newline is not used."""
        patience_s = max(_PATIENCE_S, 5 * self.interval_s)
        deadline = time.monotonic() + patience_s
        while b"\n" not in self._partial or self._waiting(0):
            left_s = deadline - time.monotonic()
            if left_s <= 0 and b"\n" in self._partial:
                break  # it prints faster than it is read
            if left_s <= 0 or not self._waiting(left_s):
                raise SensorError("tegrastats printed nothing for %g s: it hangs; reboot the board" % patience_s)
            data = os.read(self._fd, 1 << 16)
            if not data and b"\n" in self._partial:
                break
            if not data:
                raise EndedError("tegrastats ended by itself%s: %s" % (self._again(), self._last_words()))
            self._partial = (self._partial + data)[-_MOST_BYTES:]
        lines, _, self._partial = self._partial.rpartition(b"\n")
        return lines.split(b"\n")[-1].decode("utf-8", "replace")

    def _waiting(self, seconds: float) -> bool:
        return bool(select.select([self._fd], [], [], max(0.0, seconds))[0])

    def _again(self) -> str:
        return ", again" if self._restarts else ""

    def _last_words(self) -> str:
        return self._partial[-200:].decode("utf-8", "replace").strip() or "it printed nothing"


class EndedError(SensorError):
    """Tegrastats is there no more."""


def _has_unit(line: str) -> bool:
    return "mW" in line


def _core(text: str) -> Optional[Tuple[int, int]]:
    match = _CORE.match(text.strip())
    return (int(match.group(1)), int(match.group(2))) if match else None
