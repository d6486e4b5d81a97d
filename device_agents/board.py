"""What the board is, read from /proc, /sys and /etc; None where the board does not say."""

import os
import re
from typing import Any, Dict, Optional

from device_agents import telemetry
from device_agents.readings import ROOT, matches, text, text_under

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
    cpuinfo = text_under(root, "proc/cpuinfo") or ""
    return {
        "machine": os.uname().machine,
        "board": model(root),
        "kernel": text_under(root, "proc/sys/kernel/osrelease") or os.uname().release,
        "cpu": cpu(cpuinfo),
        "cores": cores(),
        "simd": simd(cpuinfo),
        "vnni": vnni(cpuinfo),
        "memory_mb": telemetry.memory_mb(root, "MemTotal") or 0.0,
        "swap_mb": telemetry.memory_mb(root, "SwapTotal"),
        "disk_free_mb": telemetry.disk_free_mb(folder),
        "governor": telemetry.governor(root),
        "governors": governors(root),
        "clock_mhz": telemetry.clock_mhz(root),
        "temperature_c": telemetry.temperature_c(root),
        "throttled": telemetry.throttled(),
        "system": system(root),
        "libc": libc(),
        "l4t": l4t(root),
    }


def model(root: str = ROOT) -> str:
    """Return the board's name: device tree, else DMI, else its kernel's."""
    for path in (
        "sys/firmware/devicetree/base/model",
        "proc/device-tree/model",
        "sys/class/dmi/id/product_name",
    ):
        name = (text_under(root, path) or "").strip("\0 \n")
        if name:
            return name
    kernel = os.uname()
    return "-".join((kernel.sysname, kernel.release, kernel.machine))


def system(root: str = ROOT) -> Optional[str]:
    """Return the distribution's name and version, as /etc/os-release tells people."""
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)', text_under(root, "etc/os-release") or "", re.M)
    return found.group(1) if found else None


def libc() -> Optional[str]:
    """Return the C library that this python runs on, ``glibc 2.27``: wheels are built for one."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (OSError, ValueError):  # another library than glibc
        return None


def l4t(root: str = ROOT) -> Optional[str]:
    """Return a Jetson's Linux for Tegra, ``32.7.1``: it decides on CUDA, TensorRT and what runs with them."""
    release = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text_under(root, "etc/nv_tegra_release") or "")
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
    return known or fields.get("model name") or fields.get("Hardware") or part or os.uname().machine


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


def vnni(cpuinfo: str) -> Optional[bool]:
    """Return whether an x86 processor adds products of 8-bit integers in 32 bits; None: it is no x86, or does not say.

    >>> vnni("flags : fpu avx2 avx_vnni"), vnni("flags : fpu avx2"), vnni("Features : fp asimd")
    (True, False, None)
    """
    flags = _fields(cpuinfo).get("flags")
    return None if flags is None else bool({"avx512_vnni", "avx_vnni"} & set(flags.split()))


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def governors(root: str = ROOT) -> Optional[str]:
    """Return the governors that the kernel offers, joined by commas."""
    lists = matches(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_available_governors")
    offered = (text(lists[0]) or "").split() if lists else []
    return ",".join(offered) or None


def _fields(cpuinfo: str) -> Dict[str, str]:
    """Return the first value of each name in /proc/cpuinfo."""
    pairs = (line.partition(":") for line in reversed(cpuinfo.splitlines()))
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}
