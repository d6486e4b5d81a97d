"""torchvision's networks at the size of CIFAR's images: no early downscaling, one small head, untrained.

``cifar_vgg16_bn``, ``cifar_vgg19_bn``: one linear layer after global pooling (as S. Zagoruyko, 92.45 % in Torch, 2015).
``cifar_densenet40``: DenseNet-BC of 40 layers with k = 12 (G. Huang et al., arXiv:1608.06993).
``cifar_mobilenet_v2``: strides of the stem and of the second stage are 1, so that the last stage sees 4×4 pixels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from torch import nn

from pipeline.torchvision_compat import torchvision


def build(name: str, *, classes: int, channels: int) -> nn.Module:
    """Build the network of a name in ``NETWORKS`` for images of 16 pixels a side or more."""
    return NETWORKS[name](classes, channels)


def _vgg(layers: str, classes: int, channels: int) -> nn.Module:
    features = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs[layers], batch_norm=True)[:-1]
    features[0] = _first(channels, 64, bias=True)
    for module in features:
        if isinstance(module, nn.Conv2d):
            _fill(module)
    head = nn.Linear(512, classes)
    parts = {"features": features, "pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(1), "classifier": head}
    return nn.Sequential(OrderedDict(parts))


def _densenet40(classes: int, channels: int) -> nn.Module:
    network = torchvision.models.DenseNet(
        growth_rate=12, block_config=(6, 6, 6), num_init_features=24, num_classes=classes
    )
    network.features.conv0 = _first(channels, 24)
    network.features.pool0 = nn.Identity()
    adapted: nn.Module = network
    return adapted


def _mobilenet_v2(classes: int, channels: int) -> nn.Module:
    # expansion, channels, blocks, stride
    stages = [
        [1, 16, 1, 1], [6, 24, 2, 1], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1],
    ]  # fmt: skip
    network = torchvision.models.MobileNetV2(num_classes=classes, inverted_residual_setting=stages)
    network.features[0][0] = _first(channels, 32)
    adapted: nn.Module = network
    return adapted


def _first(channels: int, outputs: int, *, bias: bool = False) -> nn.Conv2d:
    """Return a first convolution that keeps the images' size."""
    return _fill(nn.Conv2d(channels, outputs, 3, padding=1, bias=bias))


def _fill(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {
    "cifar_vgg16_bn": partial(_vgg, "D"),
    "cifar_vgg19_bn": partial(_vgg, "E"),
    "cifar_densenet40": _densenet40,
    "cifar_mobilenet_v2": _mobilenet_v2,
}
