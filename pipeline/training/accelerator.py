"""Accelerators: a GPU or the processor, each in the precision that it is fast in."""

from __future__ import annotations

import copy
import ctypes
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigError

Wanted = Literal["auto", "cpu", "cuda"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_KEPT_BYTES, _LARGEST_BYTES = 1 << 30, 32 << 20  # glibc takes no more than 32 MiB for the latter


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A device of torch, and the half precision that it computes in; None: it has none that is faster."""

    device: torch.device
    half: torch.dtype | None

    def autocast(self) -> torch.autocast:
        """Return a context in which what bears it is computed in half precision: half the time, as accurate."""
        return torch.autocast(self.device.type, self.half or torch.bfloat16, enabled=self.half is not None)

    def scaler(self) -> torch.amp.GradScaler:
        """Return what keeps float16's gradients from vanishing; it passes through what needs no scaling."""
        return torch.amp.GradScaler(self.device.type, enabled=self.half is torch.float16)

    def here(self, tensor: Tensor) -> Tensor:
        """Return the tensor on this device; images laid out as its convolutions read them."""
        if self.device.type == "cpu":
            return tensor  # laying a batch out anew costs more than the convolution saves
        if tensor.dim() != 4:
            return tensor.to(self.device, non_blocking=True)
        return tensor.to(self.device, non_blocking=True, memory_format=torch.channels_last)

    @contextmanager
    def holding(self, model: nn.Module) -> Iterator[None]:
        """Hold ``model`` on this device; it comes back to the CPU, however the block ends."""
        channels_last(model).to(self.device)
        try:
            with self._deterministic():
                yield
        finally:
            model.to("cpu")

    def copy_of(self, model: nn.Module) -> nn.Module:
        """Return a network to ask: on the CPU the network itself, elsewhere a copy of it."""
        return model if self.device.type == "cpu" else copy.deepcopy(model).to(self.device)

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Draw from torch's global generators anew from ``seed``; afterwards they are as they were."""
        with torch.random.fork_rng(devices=self._gpus()):
            torch.manual_seed(seed)
            yield

    def draws(self) -> dict[str, Tensor]:
        """Return the states of the global generators that dropout and the like draw from."""
        states = {"cpu": torch.get_rng_state()}
        return states if self.device.type == "cpu" else states | {"cuda": torch.cuda.get_rng_state(self.device)}

    def draw_on(self, states: dict[str, Tensor]) -> None:
        """Go on from what ``draws`` returned; a training that was begun elsewhere keeps this device's own draws."""
        torch.set_rng_state(states["cpu"])
        if self.device.type == "cuda" and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], self.device)

    def _gpus(self) -> list[torch.device]:
        return [] if self.device.type == "cpu" else [self.device]

    def _deterministic(self) -> AbstractContextManager[None]:
        """Return a context in which cuDNN picks only algorithms that give the same sums every time."""
        if self.device.type == "cpu":
            return nullcontext()
        flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True
        )
        return flags


def open_accelerator(wanted: Wanted) -> Accelerator:
    """Return what ``accelerator`` in run.yaml names; auto: a GPU where torch finds one.

    Raises:
        ConfigError: a GPU is wanted, and torch finds none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        built = f"was built for CUDA {torch.version.cuda}" if torch.version.cuda else "was built without CUDA"
        raise ConfigError(
            f"accelerator: cuda, but torch {torch.__version__} ({built}) finds no GPU; `nvidia-smi` says whether the "
            "driver does; accelerator: auto trains on the CPU"
        )
    if wanted == "cpu" or not torch.cuda.is_available():
        return cpu()
    half = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return Accelerator(torch.device("cuda", torch.cuda.current_device()), half)


def cpu() -> Accelerator:
    """Return the processor; it computes in bfloat16 where it has instructions for it."""
    able = torch.cpu.get_capabilities()
    return Accelerator(torch.device("cpu"), torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else None)


def device_of(model: nn.Module) -> torch.device:
    """Return where a network's weights lie; the CPU where it has none."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def channels_last(model: nn.Module) -> nn.Module:
    """Lay the weights out as convolutions read them: a fifth faster on CPUs, and the faster way on GPUs too."""
    laid_out: nn.Module = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return laid_out


def keep_freed_memory() -> None:
    """Let this process keep what it frees, up to 1 GiB, for what it allocates next; nothing where libc is not glibc.

    Else glibc gives a network's activations back to the system after each layer, and takes them again page by page for
    the next: a fifth of a forward pass on a CPU, and with several threads up to half of it.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_BYTES)
