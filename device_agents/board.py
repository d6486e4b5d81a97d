"""What the board is and how it feels right now, read from /proc and /sys; None where the board does not say.

Every function takes the ``root`` that /proc and /sys hang from, so that a folder shaped like a board can stand in;
the environment variable PIPELINE_BOARD_ROOT names one for a whole agent.
"""

import glob
import os
import platform
import re
import shutil
import subprocess
from typing import Any, Dict, Iterator, List, Optional, Tuple

ROOT = os.environ.get("PIPELINE_BOARD_ROOT", "/")

_VCGENCMD_TIMEOUT_S = 0.5
_PLAUSIBLE_C = (-40.0, 150.0)
_PLACEHOLDER_ZONES = re.compile(r"pmic|iwlwifi|wifi", re.I)
"""Jetson's PMIC zone reads 50 or 100 °C for ever; a radio's own sensor says nothing about the processor."""
_HWMON_CPUS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")

_ARM_PARTS = {  # MIDR_EL1 part numbers of implementer 0x41, as in linux/arch/arm64/include/asm/cputype.h
    "0xd03": "Cortex-A53",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd0b": "Cortex-A76",
    "0xd42": "Cortex-A78AE",
}


def facts(folder: str, root: str = ROOT) -> Dict[str, Any]:
    """Return what does not change while a session lasts; ``folder`` is where free space counts."""
    cpuinfo = _read(root, "proc/cpuinfo") or ""
    return {
        "machine": platform.machine(),
        "board": model(root),
        "kernel": _read(root, "proc/sys/kernel/osrelease") or platform.release(),
        "cpu": cpu(cpuinfo),
        "cores": cores(),
        "simd": simd(cpuinfo),
        "memory_mb": _memory_mb(root, "MemTotal") or 0.0,
        "swap_mb": _memory_mb(root, "SwapTotal"),
        "disk_free_mb": disk_free_mb(folder),
        "governor": governor(root),
        "governors": governors(root),
        "clock_mhz": clock_mhz(root),
        "temperature_c": temperature_c(root),
        "throttled": throttled(),
        "system": system(root),
        "libc": libc(),
        "l4t": l4t(root),
    }


def telemetry(folder: str, root: str = ROOT) -> Dict[str, Any]:
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
        "memory_free_mb": _memory_mb(root, "MemAvailable"),
        "disk_free_mb": disk_free_mb(folder),
        "throttled": throttled(),
    }


def model(root: str = ROOT) -> str:
    """Return the board's name: device tree, else DMI, else what Python calls the platform."""
    for path in (
        "sys/firmware/devicetree/base/model",
        "proc/device-tree/model",
        "sys/class/dmi/id/product_name",
    ):
        name = (_read(root, path) or "").strip("\0 \n")
        if name:
            return name
    return platform.platform()


def system(root: str = ROOT) -> Optional[str]:
    """Return the distribution's name and version, as /etc/os-release tells people."""
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)', _read(root, "etc/os-release") or "", re.M)
    return found.group(1) if found else None


def libc() -> Optional[str]:
    """Return the C library that this python runs on, ``glibc 2.27``: wheels are built for one."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (OSError, ValueError):  # another library than glibc
        return None


def l4t(root: str = ROOT) -> Optional[str]:
    """Return a Jetson's Linux for Tegra, ``32.7.1``: it decides on CUDA, TensorRT and what runs with them."""
    release = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", _read(root, "etc/nv_tegra_release") or "")
    return "%s.%s" % release.groups() if release else None


def cpu(cpuinfo: str) -> str:
    r"""Return the processor's name from the text of /proc/cpuinfo.

    >>> cpu("processor : 0\nCPU implementer : 0x41\nCPU part : 0xd08\n")
    'Cortex-A72'
    >>> cpu("model name\t: Some CPU @ 2 GHz\n")
    'Some CPU @ 2 GHz'
    """
    fields = _fields(cpuinfo)
    part = fields.get("CPU part", "").lower()
    known = _ARM_PARTS.get(part) if fields.get("CPU implementer") == "0x41" else None
    return known or fields.get("model name") or fields.get("Hardware") or part or platform.machine()


def simd(cpuinfo: str) -> str:
    """Return the widest vector unit named in /proc/cpuinfo: avx512, avx2, neon or none.

    >>> simd("flags : fpu avx avx2 avx512f")
    'avx512'
    >>> simd("Features : fp asimd crc32")
    'neon'
    """
    fields = _fields(cpuinfo)
    flags = set((fields.get("flags", "") + " " + fields.get("Features", "")).split())
    for name, marks in (("avx512", {"avx512f"}), ("avx2", {"avx2"}), ("neon", {"asimd", "neon"})):
        if flags & marks:
            return name
    return "none"


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def governor(root: str = ROOT) -> Optional[str]:
    """Return the frequency governor, several joined by commas when the cores differ."""
    found = {_read_path(path) for path in _glob(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")}
    return ",".join(sorted(name for name in found if name)) or None


def governors(root: str = ROOT) -> Optional[str]:
    """Return the governors that the kernel offers, joined by commas."""
    lists = _glob(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_available_governors")
    offered = (_read_path(lists[0]) or "").split() if lists else []
    return ",".join(offered) or None


def clock_mhz(root: str = ROOT) -> Optional[float]:
    """Return the fastest core's clock right now, since the busy core is the one that matters."""
    paths = _glob(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
    clocks = [khz / 1000 for khz in map(_number, map(_read_path, paths)) if khz]
    if not clocks:
        lines = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", _read(root, "proc/cpuinfo") or "", re.M)
        clocks = [float(mhz) for mhz in lines]
    return max(clocks) if clocks else None


def temperature_c(root: str = ROOT) -> Optional[float]:
    """Return the hottest real thermal zone, else the processor's own hwmon sensor."""
    zones = [celsius for name, celsius in _zones(root) if not _PLACEHOLDER_ZONES.search(name)]
    temperatures = [celsius for celsius in zones or _hwmon(root) if _PLAUSIBLE_C[0] < celsius < _PLAUSIBLE_C[1]]
    return max(temperatures) if temperatures else None


def throttled() -> Optional[str]:
    """Return the Raspberry Pi firmware's throttling bits as it prints them (``0x50000``), None elsewhere.

    Bits 0-3: now; 16-19: since boot (Raspberry Pi documentation, vcgencmd get_throttled).
    """
    program = shutil.which("vcgencmd")
    if not program:
        return None
    try:
        output = subprocess.check_output(
            [program, "get_throttled"], stderr=subprocess.DEVNULL, timeout=_VCGENCMD_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(rb"throttled=(0x[0-9a-fA-F]+)", output)
    return found.group(1).decode("ascii") if found else None


def load(root: str = ROOT) -> Optional[float]:
    """Return the load average of the last minute."""
    return _number((_read(root, "proc/loadavg") or "").split(" ")[0])


def cpu_times_s(root: str = ROOT) -> Optional[Tuple[float, float]]:
    """Return the seconds that all cores together were busy since boot, and those that a virtual machine's host took.

    Busy: user + nice + system + irq + softirq of /proc/stat's first line; a guest's time is in user already (proc(5)).
    """
    found = re.match(r"cpu +([\d ]+)", _read(root, "proc/stat") or "")
    ticks = [int(text) for text in found.group(1).split()] if found else []
    if len(ticks) < 8:
        return None
    user, nice, system, _, _, irq, softirq, steal = ticks[:8]
    per_s = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / per_s, steal / per_s


def peak_rss_mb(root: str = ROOT) -> Optional[float]:
    """Return the most memory that this process ever held.

    From VmHWM: getrusage's maximum is inherited over fork and exec, and so may be the parent's.
    """
    found = re.search(r"^VmHWM:\s*(\d+) kB", _read(root, "proc/self/status") or "", re.M)
    return int(found.group(1)) / 1024 if found else None


def disk_free_mb(folder: str) -> float:
    """Return the free space that an ordinary user has where ``folder`` is, or will be."""
    folder = os.path.abspath(folder)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize / 1e6


def _memory_mb(root: str, field: str) -> Optional[float]:
    found = re.search(r"^%s:\s*(\d+) kB" % field, _read(root, "proc/meminfo") or "", re.M)
    return int(found.group(1)) * 1024 / 1e6 if found else None


def _zones(root: str) -> Iterator[Tuple[str, float]]:
    for zone in _glob(root, "sys/class/thermal/thermal_zone*"):
        millicelsius = _number(_read_path(os.path.join(zone, "temp")))
        if millicelsius is not None:
            yield _read_path(os.path.join(zone, "type")) or "", millicelsius / 1000


def _hwmon(root: str) -> List[float]:
    readings = []
    for chip in _glob(root, "sys/class/hwmon/hwmon*"):
        if _read_path(os.path.join(chip, "name")) in _HWMON_CPUS:
            readings += [_number(_read_path(path)) for path in glob.glob(os.path.join(chip, "temp*_input"))]
    return [millicelsius / 1000 for millicelsius in readings if millicelsius is not None]


def _fields(cpuinfo: str) -> Dict[str, str]:
    """Return the first value of each name in /proc/cpuinfo."""
    pairs = (line.partition(":") for line in reversed(cpuinfo.splitlines()))
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def _glob(root: str, pattern: str) -> List[str]:
    return sorted(glob.glob(os.path.join(glob.escape(root), pattern)))


def _read(root: str, path: str) -> Optional[str]:
    return _read_path(os.path.join(root, path))


def _read_path(path: str) -> Optional[str]:
    """Return a small file's text, None where it is missing or will not be read (a zone that is off gives EINVAL)."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def _number(text: Optional[str]) -> Optional[float]:
    try:
        return float(text or "")
    except ValueError:
        return None
