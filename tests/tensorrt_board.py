"""A board on this machine whose GPU and TensorRT are stand-ins for NVIDIA's: a Python of its own that finds them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

VIRTUAL_GPU = Path(__file__).parent / "device_agents" / "runtimes" / "virtual_gpu"
NANO, ORIN = "53", "87"
"""Compute capabilities: without INT8, and with it."""


@dataclass(frozen=True, slots=True)
class TensorRTBoard:
    """What an inventory and an agent's environment name."""

    python: Path
    """Finds TensorRT."""
    library: Path
    """Folder of libcudart."""


def make_tensorrt_board(
    folder: Path,
    capability: str = NANO,
    fp16: str = "0.2",
    *,
    python: str = sys.executable,
    packages: str = sysconfig.get_path("purelib"),
) -> TensorRTBoard:
    """Compile the library and make the Python; skip where there is no C compiler.

    Args:
        capability: the GPU's.
        fp16: the share of the time that an engine in FP16 takes.
        python: of which it is one.
        packages: folder of its packages.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here: apt-get install gcc")
    folder.mkdir(parents=True, exist_ok=True)
    source = [str(VIRTUAL_GPU / "cudart.c"), "-o", str(folder / "libcudart.so.13")]
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", *source], check=True)
    home = folder / "python"
    subprocess.run([python, "-m", "venv", "--without-pip", home], check=True)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "here.pth").write_text(f"{packages}\n")
    told = {"VIRTUAL_TENSORRT": "8.2.1.8", "VIRTUAL_SM": capability, "VIRTUAL_FP16": fp16}
    (site / "told.pth").write_text(f"import os; os.environ.update({told!r})\n")  # an agent's environment is clean
    shutil.copy(VIRTUAL_GPU / "stand_in.py", site / "tensorrt.py")
    (site / "tensorrt-8.2.1.8.dist-info").mkdir()
    return TensorRTBoard(home / "bin" / "python", folder)
