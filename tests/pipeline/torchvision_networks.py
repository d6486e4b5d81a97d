"""torchvision's families, as its own classes build them, but of few blocks: each kind of block, each transition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from pipeline.torchvision_compat import torchvision

CLASSES = 7
_SWIN = {"patch_size": [4, 4], "embed_dim": 24, "num_heads": [3, 6], "window_size": [4, 4]}


def alexnet() -> nn.Module:
    return _with_head(lambda: torchvision.models.AlexNet(), 256)


def convnext() -> nn.Module:
    block = torchvision.models.convnext.CNBlockConfig
    stages = [block(24, 48, 2), block(48, 96, 2), block(96, None, 1)]
    return _of("ConvNeXt", stages, stochastic_depth_prob=0.1)


def densenet() -> nn.Module:
    return _of("DenseNet", 32, (3, 3, 2), 64)


def efficientnet() -> nn.Module:
    block = torchvision.models.efficientnet.MBConvConfig
    stages = [block(1, 3, 1, 32, 16, 1), block(6, 3, 2, 16, 24, 2), block(6, 5, 2, 24, 40, 2)]
    return _of("EfficientNet", stages, dropout=0.2, last_channel=160)


def googlenet() -> nn.Module:
    return _of("GoogLeNet", aux_logits=False, init_weights=False)


def inception() -> nn.Module:
    return _of("Inception3", aux_logits=False, init_weights=False)


def mnasnet() -> nn.Module:
    return _of("MNASNet", 0.5)


def mobilenet_v2() -> nn.Module:
    return _of("MobileNetV2", inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 2, 2]])


def mobilenet_v3() -> nn.Module:
    block = torchvision.models.mobilenetv3.InvertedResidualConfig
    stages = [
        block(16, 3, 16, 16, True, "RE", 2, 1, 1), block(16, 3, 72, 24, False, "RE", 2, 1, 1),
        block(24, 3, 88, 24, False, "RE", 1, 1, 1), block(24, 5, 96, 40, True, "HS", 2, 1, 1),
        block(40, 5, 240, 40, True, "HS", 1, 1, 1),
    ]  # fmt: skip
    return _of("MobileNetV3", stages, last_channel=128)


def regnet(squeeze: float | None = None) -> nn.Module:
    sizes: dict[str, Any] = {"depth": 8, "w_0": 24, "w_a": 24.48, "w_m": 2.54, "group_width": 16}
    return _of("RegNet", torchvision.models.regnet.BlockParams.from_init_params(**sizes, se_ratio=squeeze))


def regnet_with_squeeze() -> nn.Module:
    return regnet(0.25)


def resnet() -> nn.Module:
    return _of("ResNet", torchvision.models.resnet.BasicBlock, [1, 2, 1, 1])


def resnet_of_bottlenecks() -> nn.Module:
    return _of("ResNet", torchvision.models.resnet.Bottleneck, [1, 2, 1, 1], width_per_group=32)


def resnext() -> nn.Module:
    return _of("ResNet", torchvision.models.resnet.Bottleneck, [1, 2, 1, 1], groups=16, width_per_group=4)


def shufflenet() -> nn.Module:
    return _of("ShuffleNetV2", [3, 2, 2], [24, 48, 96, 192, 256])


def squeezenet() -> nn.Module:
    return _of("SqueezeNet", "1_1")


def vgg() -> nn.Module:
    layers = [32, "M", 64, "M", 64, 96, "M", 96, "M"]
    make = torchvision.models.vgg.make_layers
    return _with_head(lambda: torchvision.models.VGG(make(layers, batch_norm=True), init_weights=False), 96)


def swin() -> nn.Module:
    return _of("SwinTransformer", depths=[2, 1], **_SWIN)


def swin_v2() -> nn.Module:
    parts = torchvision.models.swin_transformer
    kinds = {"block": parts.SwinTransformerBlockV2, "downsample_layer": parts.PatchMergingV2}
    return _of("SwinTransformer", depths=[1, 1], **_SWIN, **kinds)


def vit() -> nn.Module:
    return _of("VisionTransformer", 64, 16, 2, 4, 64, 128)


def maxvit() -> nn.Module:
    return _of(
        "MaxVit", input_size=(64, 64), stem_channels=16, partition_size=4, block_channels=[16, 32], block_layers=[1, 1],
        head_dim=8, stochastic_depth_prob=0.2,
    )  # fmt: skip


def build(network: Callable[[], nn.Module]) -> nn.Module:
    """Return a network with the same weights each time, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return network().eval()


def _of(kind: str, *sizes: Any, **options: Any) -> nn.Module:
    network: nn.Module = getattr(torchvision.models, kind)(*sizes, num_classes=CLASSES, **options)
    return network


def _with_head(network: Callable[[], nn.Module], features: int) -> nn.Module:
    """Return a network whose head takes few pixels and is narrow: torchvision's has more than 50 million weights."""
    with torch.device("meta"):
        found = network()
    found.avgpool = nn.AdaptiveAvgPool2d(2)
    found.classifier = nn.Sequential(
        nn.Dropout(), nn.Linear(4 * features, 128), nn.ReLU(inplace=True),
        nn.Dropout(), nn.Linear(128, 128), nn.ReLU(inplace=True), nn.Linear(128, CLASSES),
    )  # fmt: skip
    found.to_empty(device="cpu")
    for module in found.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.BatchNorm2d)):
            module.reset_parameters()
    return found
