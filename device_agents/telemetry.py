"""Current telemetry, read from /proc and /sys; None where the board does not say."""

import os
import re
from typing import Any, Dict, Iterator, List, Optional, Tuple

from device_agents import programs
from device_agents.readings import ROOT, matches, number, text, text_under

_VCGENCMD_TIMEOUT_S = 0.5
_PLAUSIBLE_C = (-40.0, 150.0)
_PLACEHOLDER_ZONES = re.compile(r"pmic|iwlwifi|wifi", re.I)
"""Jetson's PMIC zone reads 50 or 100 °C for ever; a radio's own sensor says nothing about the processor."""
_HWMON_CPUS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")


def now(folder: str, root: str = ROOT) -> Dict[str, Any]:
    """Return what changes under load: temperature, clock, governor, load, free memory and disk, throttling.

    ``cpu_busy_s`` and ``cpu_steal_s`` count up: two readings tell how busy everybody kept the processor in between.
    """
    busy_s, steal_s = cpu_times_s(root) or (None, None)
    return {
        "temperature_c": temperature_c(root),
        "clock_mhz": clock_mhz(root),
        "governor": governor(root),
        "load": load(root),
        "cpu_busy_s": busy_s,
        "cpu_steal_s": steal_s,
        "memory_free_mb": memory_mb(root, "MemAvailable"),
        "disk_free_mb": disk_free_mb(folder),
        "throttled": throttled(),
    }


def temperature_c(root: str = ROOT) -> Optional[float]:
    """Return the hottest real thermal zone, else the processor's own hwmon sensor."""
    zones = [celsius for name, celsius in _zones(root) if not _PLACEHOLDER_ZONES.search(name)]
    temperatures = [celsius for celsius in zones or _hwmon(root) if _PLAUSIBLE_C[0] < celsius < _PLAUSIBLE_C[1]]
    return max(temperatures) if temperatures else None


def clock_mhz(root: str = ROOT) -> Optional[float]:
    """Return the fastest core's clock right now, since the busy core is the one that matters."""
    paths = matches(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
    clocks = [khz / 1000 for khz in map(number, map(text, paths)) if khz]
    if not clocks:
        lines = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", text_under(root, "proc/cpuinfo") or "", re.M)
        clocks = [float(mhz) for mhz in lines]
    return max(clocks) if clocks else None


def governor(root: str = ROOT) -> Optional[str]:
    """Return the frequency governor, several joined by commas when the cores differ."""
    found = {text(path) for path in matches(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")}
    return ",".join(sorted(name for name in found if name)) or None


def load(root: str = ROOT) -> Optional[float]:
    """Return the load average of the last minute."""
    return number((text_under(root, "proc/loadavg") or "").split(" ")[0])


def cpu_times_s(root: str = ROOT) -> Optional[Tuple[float, float]]:
    """Return the seconds that all cores together were busy since boot, and those that a virtual machine's host took.

    Busy: user + nice + system + irq + softirq of /proc/stat's first line; a guest's time is in user already (proc(5)).
    """
    found = re.match(r"cpu +([\d ]+)", text_under(root, "proc/stat") or "")
    ticks = [int(text) for text in found.group(1).split()] if found else []
    if len(ticks) < 8:
        return None
    user, nice, system, _, _, irq, softirq, steal = ticks[:8]
    per_s = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / per_s, steal / per_s


def throttled() -> Optional[str]:
    """Return the Raspberry Pi firmware's throttling bits as it prints them (``0x50000``), None elsewhere.

    Bits 0-3: now; 16-19: since boot (Raspberry Pi documentation, vcgencmd get_throttled).
    """
    program = programs.find("vcgencmd")
    if program is None:
        return None
    try:
        code, said = programs.run([program, "get_throttled"], _VCGENCMD_TIMEOUT_S)
    except programs.ProgramError:
        return None
    found = re.search(r"throttled=(0x[0-9a-fA-F]+)", said)
    return found.group(1) if found and code == 0 else None


def memory_mb(root: str, field: str) -> Optional[float]:
    """Return a field of /proc/meminfo."""
    found = re.search(r"^%s:\s*(\d+) kB" % field, text_under(root, "proc/meminfo") or "", re.M)
    return int(found.group(1)) * 1024 / 1e6 if found else None


def disk_free_mb(folder: str) -> float:
    """Return the free space that an ordinary user has where ``folder`` is, or will be."""
    folder = os.path.abspath(folder)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize / 1e6


def peak_rss_mb(root: str = ROOT) -> Optional[float]:
    """Return the most memory that this process held since ``reset_peak_rss``.

    From VmHWM: getrusage's maximum is inherited over fork and exec, and so may be the parent's.
    """
    return _status_mb("VmHWM", root)


def rss_mb(root: str = ROOT) -> Optional[float]:
    """Return the memory that this process holds."""
    return _status_mb("VmRSS", root)


def reset_peak_rss() -> bool:
    """Let the peak begin at what is held now; return whether the kernel does that (proc(5), clear_refs, since 4.0)."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        return False
    return True


def _status_mb(name: str, root: str) -> Optional[float]:
    found = re.search(r"^%s:\s*(\d+) kB" % name, text_under(root, "proc/self/status") or "", re.M)
    return int(found.group(1)) / 1024 if found else None


def _zones(root: str) -> Iterator[Tuple[str, float]]:
    for zone in matches(root, "sys/class/thermal/thermal_zone*"):
        millicelsius = number(text(os.path.join(zone, "temp")))
        if millicelsius is not None:
            yield text(os.path.join(zone, "type")) or "", millicelsius / 1000


def _hwmon(root: str) -> List[float]:
    readings = []
    for chip in matches(root, "sys/class/hwmon/hwmon*"):
        if text(os.path.join(chip, "name")) in _HWMON_CPUS:
            readings += [number(text(path)) for path in matches(chip, "temp*_input")]
    return [millicelsius / 1000 for millicelsius in readings if millicelsius is not None]
