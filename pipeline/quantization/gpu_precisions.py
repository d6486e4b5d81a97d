"""Which precisions an NVIDIA GPU is fast in, by its compute capability.

From NVIDIA's tables "Hardware and Precision" of TensorRT's support matrix and "Arithmetic Instructions" of the CUDA C++
programming guide: FP16 at twice the rate from 5.3 on but for 6.1; INT8 by DP4A in 6.1, by that or tensor cores from 7.0
on. A Jetson Nano (5.3) and a TX2 (6.2) have FP16 and no INT8.
"""

from __future__ import annotations

import re

from pipeline.export.format import FP16, INT8

_NO_INT8 = frozenset({50, 52, 53, 60, 62})
_NO_FP16 = frozenset({50, 52, 61})


def lacks(gpu: str, precision: str) -> str:
    """Return why a GPU is not fast in a precision; nothing where it is, or is not known.

    Args:
        gpu: as the agent's runtime calls it.
        precision: ``fp16`` or ``int8``.

    >>> lacks("NVIDIA Tegra X1 sm_53", "int8")
    'INT8 is not to be had: NVIDIA Tegra X1 sm_53 has no instructions for it'
    >>> lacks("NVIDIA Tegra X1 sm_53", "fp16"), lacks("Orin sm_87", "int8"), lacks("", "int8")
    ('', '', '')
    """
    found = re.search(r" sm_(\d+)$", gpu)
    missing = {INT8: _NO_INT8, FP16: _NO_FP16}[precision]
    if found is None or int(found.group(1)) not in missing:
        return ""
    return f"{precision.upper()} is not to be had: {gpu} has no instructions for it"
