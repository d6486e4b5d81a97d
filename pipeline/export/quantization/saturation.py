"""Saturation: an x86 processor without VNNI adds two products of uint8 and int8 in int16, which they may not fit into.

ONNX Runtime computes in uint8 × int8 on x86, whichever is written, and such a sum is cut off without a word: 2 × 255 ×
127 is more than 32,767. Weights of seven bits keep it below (ONNX Runtime's documentation on quantization calls it
reduce_range); they cost a fiftieth of a point of a ResNet-20.
"""

from __future__ import annotations

import platform
from pathlib import Path

EIGHT_BITS, SEVEN_BITS = 127, 63
_ADD_IN_INT32 = {"avx512_vnni", "avx_vnni"}


def largest_weight(machine: str = "", cpuinfo: str = "") -> int:
    """Return the largest int8 weight by which this host, on which accuracy is read, computes right.

    Args:
        machine: as ``platform.machine()``, which is the default.
        cpuinfo: the text of /proc/cpuinfo, which is the default.

    >>> largest_weight("x86_64", "flags : avx2"), largest_weight("x86_64", "flags : avx2 avx512_vnni")
    (63, 127)
    >>> largest_weight("aarch64", "Features : asimd")
    127
    """
    if (machine or platform.machine()) not in ("x86_64", "AMD64"):
        return EIGHT_BITS
    file = Path("/proc/cpuinfo")
    text = cpuinfo or (file.read_text(encoding="utf-8", errors="replace") if file.is_file() else "")
    return EIGHT_BITS if not text or _ADD_IN_INT32 & set(text.split()) else SEVEN_BITS
