"""Awkward toys: each small network has one structure over which a cut stumbles easily; 5 scores for 8 × 8 images.

A toy says which layers' channels have to be prunable and which have to be refused; what it does not name may be either.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention


class Toy(nn.Module):
    """Two convolutions and a linear layer, which every toy has, and what is expected of it."""

    PRUNABLE: ClassVar[tuple[str, ...]] = ("first", "last")
    """Layers that have to be in a group that can be cut."""
    REFUSED: ClassVar[tuple[str, ...]] = ("fc",)
    """Layers that have to be left whole, with a reason."""
    EXACT: ClassVar[bool] = True
    """A cut leaves the other channels' values as they were. Not so where channels are normalised by one another."""

    def __init__(self, width: int = 16, features: int | None = None) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.last = nn.Conv2d(features or width, 8, 3, padding=1)
        self.fc = nn.Linear(8, 5)

    def scores(self, x: Tensor) -> Tensor:
        return self.fc(torch.sigmoid(self.last(x)).mean((2, 3)))


class PaddedShortcut(Toy):
    """Option A: the shortcut takes every second pixel and pads channels of zeros on both sides."""

    PRUNABLE = ("inner", "last")

    def __init__(self) -> None:
        super().__init__(width=8, features=16)
        self.inner, self.outer = nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4), "constant", 0)
        return self.scores(torch.relu(self.outer(torch.relu(self.inner(x))) + shortcut))


class ShuffleOfLiterals(Toy):
    """A channel shuffle whose view names the channels as numbers."""

    PRUNABLE = ("last",)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x)).view(-1, 2, 8, 8, 8).transpose(1, 2).contiguous().view(-1, 16, 8, 8)
        return self.scores(x)


class ShuffleOfSizes(Toy):
    """ShuffleNet's unit: half the channels pass by, half are convolved; the shuffle asks for x.size()."""

    PRUNABLE = ("last",)

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.relu(self.first(x)).chunk(2, dim=1)
        x = torch.cat([a, torch.relu(self.branch(b))], dim=1)
        n, c, h, w = x.size()
        x = x.view(n, 2, c // 2, h, w)
        x = torch.transpose(x, 1, 2).contiguous()
        return self.scores(x.view(n, -1, h, w))


class Split(Toy):
    """Unequal splits of one layer's channels, one of which is read twice."""

    PRUNABLE = ("first", "left", "last")

    def __init__(self) -> None:
        super().__init__(features=8)
        self.left, self.right, self.again = nn.Conv2d(4, 8, 1), nn.Conv2d(12, 8, 1), nn.Conv2d(4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.split(torch.relu(self.first(x)), [4, 12], dim=1)
        return self.scores(torch.relu(self.left(a)) * torch.sigmoid(self.right(b)) + self.again(a))


class Reused(Toy):
    """One convolution is applied twice, so its inputs and outputs are the same channels."""

    PRUNABLE = ("last",)

    def __init__(self) -> None:
        super().__init__()
        self.again = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        return self.scores(torch.relu(self.again(torch.relu(self.again(x)))))


class Transposed(Toy):
    """Down and up again by transposed convolutions, one of them depthwise; a transposed weight is (in, out, ...)."""

    PRUNABLE = ("first", "up", "last")

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(16, 12, 3, stride=2, padding=1), nn.ConvTranspose2d(12, 16, 2, stride=2)
        self.norm, self.each = nn.BatchNorm2d(16), nn.ConvTranspose2d(16, 16, 2, stride=2, groups=16)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.down(torch.relu(self.first(x))))
        return self.scores(self.each(torch.relu(self.norm(self.up(x)))))


class Flattened(nn.Module):
    """VGG's: the last maps are flattened, each channel is 16 columns of the linear layer; then dropout."""

    PRUNABLE = ("conv", "hidden")
    REFUSED = ("fc",)
    EXACT = True

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.hidden, self.drop, self.fc = nn.Linear(256, 12), nn.Dropout(), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.relu(self.norm(self.conv(x))), 2)
        return self.fc(self.drop(torch.relu(self.hidden(torch.flatten(x, 1)))))


class ReshapedByLiterals(Flattened):
    """As VGG, but the reshape names the number of features, which a cut changes."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(torch.sigmoid(self.norm(self.conv(x))), 2).reshape(-1, 16 * 4 * 4)
        return self.fc(self.drop(torch.relu(self.hidden(x))))


class Functional(nn.Module):
    """No layer anywhere: forward() hands its own parameters to functions."""

    PRUNABLE = ("weight",)
    REFUSED = ()
    EXACT = True

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(16, 3, 3, 3)), nn.Parameter(torch.randn(16))
        self.scale, self.shift = nn.Parameter(torch.rand(16) + 0.5), nn.Parameter(torch.randn(16))
        self.register_buffer("mean", torch.randn(16))
        self.register_buffer("var", torch.rand(16) + 0.5)
        self.second = nn.Parameter(torch.randn(8, 16, 1, 1))
        self.out, self.out_bias = nn.Parameter(torch.randn(5, 8)), nn.Parameter(torch.randn(5))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.weight, self.bias, padding=1)
        x = torch.sigmoid(F.batch_norm(x, self.mean, self.var, self.scale, self.shift))
        x = F.conv2d(x, self.second)
        return F.linear(x.mean((2, 3)), self.out, self.out_bias)


class SqueezeExcite(Toy):
    """Channels scaled by what two linear layers make of their means."""

    PRUNABLE = ("first", "squeeze", "last")

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Linear(16, 8), nn.Linear(8, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        n, c, _, _ = x.shape
        y = F.adaptive_avg_pool2d(x, 1).view(n, c)
        y = torch.sigmoid(self.excite(torch.relu(self.squeeze(y)))).view(n, c, 1, 1)
        return self.scores(x * y.expand_as(x))


class Dense(Toy):
    """DenseNet's: every layer reads the concatenation of all before it, normalised anew each time."""

    PRUNABLE = ("first", "grow0", "grow1", "last")

    def __init__(self) -> None:
        super().__init__(features=32)
        self.norm0, self.grow0 = nn.BatchNorm2d(16), nn.Conv2d(16, 8, 3, padding=1)
        self.norm1, self.grow1 = nn.BatchNorm2d(24), nn.Conv2d(24, 8, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(32)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.first(x)]
        features.append(self.grow0(torch.relu(self.norm0(features[0]))))
        features.append(self.grow1(torch.relu(self.norm1(torch.cat(features, 1)))))
        return self.scores(torch.relu(self.norm2(torch.cat(features, 1))))


class GroupNormalised(Toy):
    """A convolution of four groups, then GroupNorm of the same four: whole groups, or nothing."""

    PRUNABLE = ("last",)

    def __init__(self) -> None:
        super().__init__()
        self.grouped, self.norm = nn.Conv2d(16, 16, 3, padding=1, groups=4), nn.GroupNorm(4, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(torch.relu(self.norm(self.grouped(torch.relu(self.first(x))))))


class AuxiliaryTuple(Toy):
    """While it trains and afterwards it answers with a tuple: the scores, and an auxiliary head's."""

    def __init__(self) -> None:
        super().__init__()
        self.aux = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.relu(self.first(x))
        return self.scores(x), self.aux(x.mean((2, 3)))


class AuxiliaryDict(AuxiliaryTuple):
    """As segmentation networks answer: a dictionary, whose first entry is not the one that counts."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        scores, aux = super().forward(x)
        return {"aux": aux, "out": scores}


class ConvNext(Toy):
    """Channels move to the end for LayerNorm and linear layers and back; a parameter scales them in the residual."""

    PRUNABLE = ("widen", "last")
    EXACT = False

    def __init__(self) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(16, 16, 7, padding=3, groups=16), nn.LayerNorm(16, eps=1e-6)
        self.widen, self.narrow = nn.Linear(16, 32), nn.Linear(32, 16)
        self.layer_scale = nn.Parameter(torch.rand(16, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.narrow(F.gelu(self.widen(y))).permute(0, 3, 1, 2)
        return self.scores(x + self.layer_scale * y)


class MeanOverChannels(Toy):
    """Spatial attention: every channel is scaled by the mean of all, which a cut would change."""

    PRUNABLE = ("last",)
    REFUSED = ("first", "fc")

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        return self.scores(x * torch.sigmoid(x.mean(1, keepdim=True)))


class MeanAndMaximum(Toy):
    """CBAM's: mean and maximum over the channels, concatenated and convolved, scale another branch."""

    PRUNABLE = ("other", "last")
    REFUSED = ("first", "fc")

    def __init__(self) -> None:
        super().__init__()
        self.other, self.mask = nn.Conv2d(3, 16, 1), nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.relu(self.first(x))
        pair = torch.cat([seen.mean(dim=1, keepdim=True), seen.max(dim=1, keepdim=True)[0]], dim=1)
        return self.scores(torch.relu(self.other(x)) * torch.sigmoid(self.mask(pair)))


class Attention(Toy):
    """Self-attention by matrix products: the softmax sees sums over the channels of queries and keys."""

    PRUNABLE = ("last",)

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Conv2d(16, 8, 1) for _ in range(3))
        self.project = nn.Conv2d(8, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        q, k, v = (part(x).flatten(2) for part in (self.query, self.key, self.value))
        weights = torch.softmax(torch.bmm(q.transpose(1, 2), k) / 8**0.5, dim=-1)
        y = torch.bmm(v, weights.transpose(1, 2)).view(-1, 8, 8, 8)
        return self.scores(x + self.project(y))


class PixelShuffled(Toy):
    """Four channels become one of twice the size."""

    PRUNABLE = ("last",)

    def __init__(self) -> None:
        super().__init__(features=4)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(F.pixel_shuffle(torch.relu(self.first(x)), 2))


class Squeezed(Toy):
    """Dimensions of one come and go around a linear layer."""

    PRUNABLE = ("first", "hidden", "last")

    def __init__(self) -> None:
        super().__init__(features=12)
        self.hidden = nn.Linear(16, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(torch.relu(self.first(x)), 1).squeeze(-1).squeeze(-1)
        x = torch.relu(self.hidden(x)).unsqueeze(-1).unsqueeze(-1)
        return self.scores(x.expand(-1, -1, 4, 4))


class Normalised(Toy):
    """Each pixel's channels are brought to length one together."""

    PRUNABLE = ("last",)
    EXACT = False

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(F.normalize(torch.relu(self.first(x)), dim=1))


class Stacked(Toy):
    """Two branches are added by stacking them and summing over the new dimension."""

    PRUNABLE = ("last",)

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Conv2d(3, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(torch.relu(torch.stack([self.first(x), self.other(x)], dim=1).sum(1)))


class Looped(Toy):
    """A Python loop over a ModuleList, residual every second time."""

    PRUNABLE = ("first", "layers.0", "layers.2", "last")

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = kept = torch.relu(self.first(x))
        for i, layer in enumerate(self.layers):
            x = torch.relu(layer(x)) if i % 2 == 0 else layer(x)
            if i % 2:
                x = kept = torch.relu(x + kept)
        return self.scores(x)


class Indexed(Toy):
    """A Sequential is sliced and indexed in forward(); one of its layers is skipped."""

    PRUNABLE = ("first", "body.0", "last")

    def __init__(self) -> None:
        super().__init__(features=8)
        self.body = nn.Sequential(
            nn.Conv2d(16, 12, 1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(99, 99, 1), nn.Conv2d(12, 8, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(self.body[-1](self.body[:3](torch.relu(self.first(x)))))


class Tied(Toy):
    """Two layers share one weight, each with a bias of its own: they are cut together or not at all."""

    PRUNABLE = ("last",)

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.one(torch.relu(self.first(x))))
        return self.scores(torch.relu(self.two(torch.sigmoid(x))))


class SideBySide(Toy):
    """Inception's: three branches are concatenated; the shortest of them has nothing but a convolution."""

    PRUNABLE = ("first", "short", "deep.0", "deep.2", "last")

    def __init__(self) -> None:
        super().__init__(features=40)
        self.short = nn.Conv2d(16, 8, 1)
        self.deep = nn.Sequential(nn.Conv2d(16, 12, 1), nn.ReLU(), nn.Conv2d(12, 16, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        return self.scores(torch.relu(torch.cat((self.short(x), self.deep(x), F.max_pool2d(x, 3, 1, 1)), dim=1)))


class Residual(Toy):
    """Two blocks whose branches can go whole."""

    PRUNABLE = ("first", "a", "c", "last")

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Conv2d(16, 16, 3, padding=1) for _ in range(4))
        self.norms = nn.ModuleList(nn.BatchNorm2d(16) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = torch.relu(self.norms[0](self.b(torch.relu(self.a(x)))) + x)
        return self.scores(x.add(self.norms[1](self.d(torch.relu(self.c(x))))))


TOYS: tuple[type[nn.Module], ...] = (
    PaddedShortcut, ShuffleOfLiterals, ShuffleOfSizes, Split, Reused, Transposed, Flattened, ReshapedByLiterals,
    Functional, SqueezeExcite, Dense, GroupNormalised, AuxiliaryTuple, AuxiliaryDict, ConvNext, MeanOverChannels,
    MeanAndMaximum, Attention, PixelShuffled, Squeezed, Normalised, Stacked, Looped, Indexed, Tied, SideBySide,
    Residual,
)  # fmt: skip
