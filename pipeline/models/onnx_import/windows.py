"""Windows of convolutions and pooling: kernel, strides, dilations and padding of each dimension in space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.models.onnx_import.operator_call import Call, UnfitError

_AUTOMATIC = ("SAME_UPPER", "SAME_LOWER")


@dataclass(frozen=True, slots=True)
class Window:
    """A window over the dimensions in space."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    """Padding at each dimension's begin."""
    after: tuple[int, ...]
    """Padding at its end."""
    is_automatic: bool

    @property
    def dims(self) -> int:
        """How many dimensions there are in space."""
        return len(self.kernel)

    @property
    def is_lopsided(self) -> bool:
        """Whether the sides of a dimension are padded by different numbers."""
        return self.before != self.after

    def for_torch(self) -> list[int]:
        """Return the padding as ``torch.nn.functional.pad`` takes it: the last dimension first."""
        pairs = list(zip(self.before, self.after, strict=True))
        return [size for pair in reversed(pairs) for size in pair]


def window_of(call: Call, shape: Sequence[int], kernel: Sequence[int]) -> Window:
    """Return an operator's window.

    Args:
        call: the operator.
        shape: of what it reads, (N, C, ...).
        kernel: its size in each dimension.

    Raises:
        UnfitError: its attributes are of another number of dimensions.
    """
    dims = len(kernel)
    strides, dilations = (tuple(map(int, call.attribute(n) or [1] * dims)) for n in ("strides", "dilations"))
    pads = tuple(map(int, call.attribute("pads") or [0] * 2 * dims))
    automatic = call.text("auto_pad", "NOTSET")
    if automatic in _AUTOMATIC:
        pads = _same(shape[2:], kernel, strides, dilations, lower=automatic == "SAME_LOWER")
    elif automatic == "VALID":
        pads = (0,) * 2 * dims
    if {len(strides), len(dilations), len(pads) // 2, len(shape) - 2} != {dims}:
        raise UnfitError(f"its window of {dims} dimensions does not fit what it reads, {tuple(shape)}")
    return Window(tuple(map(int, kernel)), strides, dilations, pads[:dims], pads[dims:], automatic in _AUTOMATIC)


def _same(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], *, lower: bool
) -> tuple[int, ...]:
    """Return the padding that leaves one position a stride; an odd one more goes to the end, or to the begin."""
    small, large = [], []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + (width - 1) * dilation + 1 - size)
        small.append(total // 2)
        large.append(total - total // 2)
    return (*large, *small) if lower else (*small, *large)
