"""What users write in forward(): the same few things, in ways that symbolic tracing of Python meets one by one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

with warnings.catch_warnings(action="ignore"):  # scripting is deprecated, and still in people's networks

    @torch.jit.script
    def scripted_swish(x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


@dataclass
class Pair:
    first: Tensor
    second: Tensor


class Between(nn.Module):
    """A convolution of 16 channels, something done to them, and another convolution that reads the result."""

    def __init__(self, done: Callable[[Between, Tensor], Tensor], reads: int = 16) -> None:
        super().__init__()
        self.done = done
        self.conv, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.inner = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(2))
        self.reader, self.fc = nn.Conv2d(reads, 8, 1), nn.Linear(8, 5)
        self.scale, self.pair = nn.Parameter(torch.tensor(0.3)), nn.Parameter(torch.ones(2))
        self.register_buffer("shift", torch.tensor([0.5, 1.5]))

    def forward(self, x: Tensor) -> Tensor:
        x = self.done(self, torch.tanh(self.norm(self.conv(x))))
        return self.fc(self.reader(x).mean((2, 3)))


def _extended(net: Between, x: Tensor) -> Tensor:
    parts = list(x.chunk(2, 1))
    parts.extend(layer(parts[-1]) for layer in net.inner)
    return torch.cat(parts, 1)


def _reduced(_: Between, x: Tensor) -> Tensor:
    total: Tensor | int = 0
    for part in x.split(8, dim=1):
        total = total + part
    return torch.cat([total, total], 1)


def _zipped(net: Between, x: Tensor) -> Tensor:
    return torch.cat([layer(part) for layer, part in zip(net.inner, x.chunk(2, 1), strict=True)], 1)


def _enumerated(net: Between, x: Tensor) -> Tensor:
    parts = x.chunk(2, 1)
    return torch.cat([net.inner[i](part) for i, part in enumerate(reversed(parts))], 1)


def _unpacked(_: Between, x: Tensor) -> Tensor:
    first, *rest = x.split(4, 1)
    return torch.cat([*rest, first], 1)


def _in_a_dict(_: Between, x: Tensor) -> Tensor:
    parts = dict(zip("ab", x.chunk(2, 1), strict=True))
    return torch.cat([value for _, value in sorted(parts.items(), reverse=True)], 1)


def _in_a_record(_: Between, x: Tensor) -> Tensor:
    pair = Pair(*x.chunk(2, 1))
    return torch.cat([pair.second, pair.first], 1)


def _shifted(_: Between, x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    out[:, :4, :, :-1] = x[:, :4, :, 1:]
    out[:, 4:] = x[:, 4:]
    return out


def _added_to_a_slice(net: Between, x: Tensor) -> Tensor:
    half = x[:, :8]
    half += net.inner[0](x[:, 8:])
    return x


def _item_assigned(_: Between, x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 8:] = y[:, 8:] * 2
    return y


def _relu_on_a_view(_: Between, x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :8].relu_()
    return y


def _index_of_one_image(_: Between, x: Tensor) -> Tensor:
    return torch.stack([x[:, i] for i in range(x.shape[1])], 1)


def _checked(_: Between, x: Tensor) -> Tensor:
    if not isinstance(x, Tensor):
        raise TypeError("give a tensor")
    if type(x) is not Tensor and not hasattr(x, "shape"):
        raise TypeError("give a tensor")
    return x


def _padded(_: Between, x: Tensor) -> Tensor:
    return torch.cat([x, torch.zeros(x.size(0), 16, x.size(2), x.size(3))], 1)


def _filled(_: Between, x: Tensor) -> Tensor:
    out = torch.zeros(x.shape[0], 32, *x.shape[2:], dtype=x.dtype, device=x.device)
    out[:, : x.shape[1]] = x
    return out


def _half_filled(_: Between, x: Tensor) -> Tensor:
    out = x.new_ones((len(x), 32, x.shape[2], x.shape[3]))
    out[:, 8:24] = x
    return out


def _weighted(net: Between, x: Tensor) -> Tensor:
    first, second = torch.softmax(net.pair, 0)
    return x * first + x.cos() * second


def _standardised(_: Between, x: Tensor) -> Tensor:
    deviation, mean = torch.std_mean(x, (2, 3), keepdim=True)
    return (x - mean) / (deviation + 1)


def _by_a_while(_: Between, x: Tensor) -> Tensor:
    while x.shape[-1] > 2:
        x = functional.max_pool2d(x, 2)
    return x


def _first_max(_: Between, x: Tensor) -> Tensor:
    return x * x.flatten(2).max(-1)[0][..., None, None]


def _named_max(_: Between, x: Tensor) -> Tensor:
    return x * x.amax(3, keepdim=True) + x.min(dim=2, keepdim=True).values


LONG = frozenset([
    "item assigned", "written into ones", "dictionary", "list that grows", "shift by item assignment", "min over rows",
    "map", "sum into a slice", "len", "median over pixels", "data class", "sum in a loop", "sum", "zeros",
    "starred unpacking", "for", "scripted activation", "written into zeros", "enumerate and reversed", "isinstance",
    "tensor_split", "star", "min of two",
])  # fmt: skip
"""Of what follows, that which torch.export records, in ten times as long; the quick set has one of each kind."""

FOLLOWED: dict[str, tuple[Callable[[Between, Tensor], Tensor], int, int]] = {
    # scalars
    "a parameter's complement": (lambda net, x: net.scale * x + (1 - net.scale) * x.sin(), 16, 16),
    "sum of a vector": (lambda net, x: x / (net.pair.sum() + 1), 16, 16),
    "items of a vector": (lambda net, x: x * (net.pair[0] + net.pair[1]), 16, 16),
    "mean of everything": (lambda _, x: x / (x.mean() + 10), 16, 16),
    "largest of everything": (lambda _, x: x / (x.abs().max() + 1), 16, 16),
    "norm of everything": (lambda _, x: x / (x.norm() + 1), 16, 16),
    "item of a buffer": (lambda net, x: (x - net.shift[0]) / net.shift[1], 16, 16),
    "softmax of two weights": (_weighted, 16, 16),
    "a tensor made of a number": (lambda _, x: x * torch.tensor(2.0) + math.pi, 16, 16),
    "where with a number": (lambda _, x: torch.where(x > 0, x, torch.zeros(())), 16, 16),
    # Python over pieces
    "list": (lambda _, x: torch.cat(list(x.chunk(2, 1)), 1), 16, 16),
    "for": (lambda _, x: torch.cat([part * 2 for part in x.split(4, 1)], 1), 16, 16),
    "star": (lambda _, x: torch.cat((*x.chunk(2, 1),), 1), 16, 16),
    "len": (lambda _, x: torch.cat([x.chunk(2, 1)[i] for i in range(len(x.chunk(2, 1)))], 1), 16, 16),
    "sum": (lambda _, x: torch.cat([sum(x.chunk(2, 1))] * 2, 1), 16, 8),
    "list that grows": (_extended, 32, 16),
    "sum in a loop": (_reduced, 16, 8),
    "zip": (_zipped, 16, 16),
    "enumerate and reversed": (_enumerated, 16, 16),
    "starred unpacking": (_unpacked, 16, 16),
    "dictionary": (_in_a_dict, 16, 16),
    "data class": (_in_a_record, 16, 16),
    "map": (lambda _, x: torch.cat(list(map(torch.relu, x.chunk(4, 1))), 1), 16, 16),
    "slice of pieces": (lambda _, x: torch.cat(x.chunk(4, 1)[1:3], 1), 8, 16),
    "while on a size": (_by_a_while, 16, 16),
    # writes
    "shift by item assignment": (_shifted, 16, 16),
    "sum into a slice": (_added_to_a_slice, 16, 16),
    "item assigned": (_item_assigned, 16, 16),
    "in place on a view": (_relu_on_a_view, 16, 16),
    "multiplied in place": (lambda _, x: x.mul_(2).add_(1), 16, 16),
    # types
    "isinstance": (_checked, 16, 16),
    "scripted activation": (lambda _, x: scripted_swish(x), 16, 16),
    "Ellipsis": (lambda _, x: x[..., ::2, ::2], 16, 16),
    "Ellipsis at the end": (lambda _, x: x[:, 4:12, ...], 8, 16),
    "new dimension": (lambda _, x: x[:, None].squeeze(1), 16, 16),
    # constants
    "zeros": (_padded, 32, 16),
    "zeros_like": (lambda _, x: torch.cat([x, torch.zeros_like(x)], 1), 32, 16),
    "new_zeros": (lambda _, x: torch.cat([x, x.new_zeros(x.shape[0], 16, *x.shape[2:])], 1), 32, 16),
    "padding that is computed": (lambda _, x: functional.pad(x, (0, 0, 0, 0, 0, 2 * x.shape[1] - 16)), 32, 16),
    "written into zeros": (_filled, 32, 16),
    "written into ones": (_half_filled, 32, 16),
    "ones_like": (lambda _, x: x + torch.ones_like(x), 16, 16),
    "full_like": (lambda _, x: torch.maximum(x, torch.full_like(x, 0.1)), 16, 16),
    # operators
    "max of two": (lambda _, x: torch.max(x, -x), 16, 16),
    "min of two": (lambda _, x: torch.min(x, 2 * x), 16, 16),
    "max over pixels": (_first_max, 16, 16),
    "min over rows": (_named_max, 16, 16),
    "clamp_min": (lambda _, x: x.clamp_min(0), 16, 16),
    "masked_fill": (lambda _, x: x.masked_fill(x < 0, 0), 16, 16),
    "glu": (lambda _, x: functional.glu(x, 1), 8, 8),
    "narrow": (lambda _, x: torch.cat([x.narrow(1, 8, 8), x.narrow(1, 0, 8)], 1), 16, 16),
    "tensor_split": (lambda _, x: torch.cat([*x.tensor_split(2, 1)][::-1], 1), 16, 16),
    "tensor_split at places": (lambda _, x: torch.cat(x.tensor_split((4, 12), dim=1)[1:], 1), 12, 16),
    "select": (lambda _, x: x.unsqueeze(2).select(2, 0), 16, 16),
    "logaddexp": (lambda _, x: torch.logaddexp(x, -x), 16, 16),
    "bitwise or of masks": (lambda _, x: x * ((x > 0.5) | (x < -0.5)), 16, 16),
    "median over pixels": (lambda _, x: x - x.flatten(2).median(-1).values[:, :, None, None], 16, 16),
    "hypot": (lambda _, x: torch.hypot(x, x + 1), 16, 16),
    "erf": (lambda _, x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))), 16, 16),
    "var over pixels": (lambda _, x: x / (x.var((2, 3), keepdim=True, unbiased=False) + 1).sqrt(), 16, 16),
    "std and mean": (_standardised, 16, 16),
}  # fmt: skip
"""What is done → that, how many channels are read, how many of the first convolution's 16 can go one by one."""
