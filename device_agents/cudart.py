"""CUDA's runtime library by ctypes, as much of it as running an engine takes: a Jetson has the library, and no pycuda.

The signatures and numbers are those of the CUDA Runtime API reference (driver_types.h, sections "Device Management",
"Stream Management", "Memory Management"); they have not changed from 10.2, a Jetson Nano's, to 13.
"""

import contextlib
import ctypes
import glob
import os
import sys
from typing import Any, Dict, List, Optional

_SONAMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so.10.2", "libcudart.so")
_PLACES = (
    "/usr/local/cuda/lib64",
    "/usr/local/cuda*/lib64",
    "/usr/local/cuda*/targets/*/lib",
    "/usr/lib/*-linux-gnu",
)
_WHEELS = ("nvidia/cuda_runtime/lib", "nvidia/cu13/lib")
"""Where NVIDIA's packages on PyPI put the library, below a folder of ``sys.path``."""

_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind
_MAJOR, _MINOR = 75, 76  # cudaDevAttrComputeCapabilityMajor, ...Minor
_SPIN, _BLOCK = 1, 4  # cudaDeviceScheduleSpin, cudaDeviceScheduleBlockingSync
_NAME_BYTES = 256
_PROPERTIES_BYTES = 8192
"""More than cudaDeviceProp has had in any version (CUDA 12's: 1032); the name stands first in all of them."""

_SIZE = ctypes.c_size_t
_POINTER = ctypes.c_void_p
_INT = ctypes.c_int
_SIGNATURES: Dict[str, List[Any]] = {
    "cudaRuntimeGetVersion": [_POINTER],
    "cudaGetDeviceCount": [_POINTER],
    "cudaGetDeviceProperties": [_POINTER, _INT],
    "cudaDeviceGetAttribute": [_POINTER, _INT, _INT],
    "cudaSetDeviceFlags": [ctypes.c_uint],
    "cudaMalloc": [_POINTER, _SIZE],
    "cudaMallocHost": [_POINTER, _SIZE],
    "cudaMemcpyAsync": [_POINTER, _POINTER, _SIZE, _INT, _POINTER],
    "cudaStreamCreate": [_POINTER],
    "cudaStreamSynchronize": [_POINTER],
}


class CudaError(Exception):
    """A call failed; the message names it and says what CUDA says."""


class Cuda:
    """The library. Every call that fails raises CudaError with CUDA's own words; addresses and handles are numbers.

    Nothing is ever given back: the process serves one request, and what it took goes with it.

    Raises:
        CudaError: there is no such library here.
    """

    def __init__(self, path: Optional[str] = None) -> None:
        self._library = _open([path] if path else candidates())
        self._library.cudaGetErrorString.restype = ctypes.c_char_p
        for name, arguments in _SIGNATURES.items():
            getattr(self._library, name).argtypes = arguments

    def version(self) -> str:
        """Return the library's version, such as ``10.2``."""
        number = self._number("cudaRuntimeGetVersion")  # 10020
        return "%d.%d" % (number // 1000, number % 1000 // 10)

    def device(self) -> str:
        """Return the first GPU's name and compute capability, such as ``NVIDIA Tegra X1 sm_53``."""
        self._number("cudaGetDeviceCount")  # without a driver or a GPU, this one says so
        properties = ctypes.create_string_buffer(_PROPERTIES_BYTES)
        self._call("cudaGetDeviceProperties", properties, 0)
        name = properties.raw[:_NAME_BYTES].split(b"\0")[0].decode("utf-8", "replace")
        major, minor = (self._number("cudaDeviceGetAttribute", attribute, 0) for attribute in (_MAJOR, _MINOR))
        return "%s sm_%d%d" % (name, major, minor)

    def wait_by(self, spinning: Optional[bool]) -> None:
        """Let this process wait for the GPU by spinning on a core or asleep; None leaves the choice to CUDA.

        Has to be called before the GPU is first used.
        """
        if spinning is not None:
            self._call("cudaSetDeviceFlags", _SPIN if spinning else _BLOCK)

    def allocate(self, size: int) -> int:
        """Return the address of ``size`` bytes on the GPU."""
        return self._address("cudaMalloc", size)

    def allocate_host(self, size: int) -> int:
        """Return the address of ``size`` bytes that are never paged out, so that they are copied without a detour."""
        return self._address("cudaMallocHost", size)

    def copy_to_device(self, device: int, host: int, size: int, stream: int) -> None:
        """Begin to copy ``size`` bytes from ``host`` to ``device``."""
        self._call("cudaMemcpyAsync", device, host, size, _TO_DEVICE, stream)

    def copy_to_host(self, host: int, device: int, size: int, stream: int) -> None:
        """Begin to copy ``size`` bytes from ``device`` to ``host``."""
        self._call("cudaMemcpyAsync", host, device, size, _TO_HOST, stream)

    def new_stream(self) -> int:
        """Return the handle of a new stream."""
        return self._address("cudaStreamCreate")

    def synchronize(self, stream: int) -> None:
        """Wait until everything begun on ``stream`` is done."""
        self._call("cudaStreamSynchronize", stream)

    def words(self, code: int) -> str:
        """Return what CUDA calls an error."""
        return str(self._library.cudaGetErrorString(code).decode("ascii", "replace"))

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise CudaError("%s: %s (CUDA error %d)" % (name, self.words(code), code))

    def _number(self, name: str, *arguments: Any) -> int:
        number = ctypes.c_int()
        self._call(name, ctypes.byref(number), *arguments)
        return number.value

    def _address(self, name: str, *arguments: Any) -> int:
        address = ctypes.c_void_p()
        self._call(name, ctypes.byref(address), *arguments)
        return address.value or 0


def candidates() -> List[str]:
    """Return what may be the library: by name for the loader to find, then every file where it is usually put."""
    folders = [os.path.join(folder, wheel) for folder in sys.path for wheel in _WHEELS]
    files = [path for place in folders + list(_PLACES) for path in glob.glob(os.path.join(place, "libcudart.so*"))]
    return list(_SONAMES) + sorted(set(files), key=files.index)


def _open(names: List[str]) -> ctypes.CDLL:
    """Return the first library that sees a GPU, else the first: one that is newer than the driver sees none."""
    found = []
    for name in names:
        with contextlib.suppress(OSError):
            found.append(ctypes.CDLL(name))
            if found[-1].cudaGetDeviceCount(ctypes.byref(ctypes.c_int())) == 0:
                return found[-1]
    if found:
        return found[0]
    raise CudaError(
        "libcudart is not here: a Jetson has it from JetPack (sudo apt-get install nvidia-jetpack), elsewhere"
        " pip install nvidia-cuda-runtime; looked for " + ", ".join(names)
    )
