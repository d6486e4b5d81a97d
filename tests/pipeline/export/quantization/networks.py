"""Small classifiers with the operators that quantization has to get right, and their float ONNX files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from pipeline.devices.host_processor import host_processor
from pipeline.export.onnx.exporter import export
from pipeline.export.quantization.qdq import U8S8
from pipeline.quantization.saturation import weight_bits
from pipeline.records import OnnxSupport

LIMITS = OnnxSupport(17, 8)
IMAGES = torch.randn(48, 3, 16, 16, generator=torch.Generator().manual_seed(0))
HERE = replace(U8S8, weight_bits=weight_bits([host_processor()]))
"""As this machine computes it right."""


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """As a ResNet: a sum of two branches, one of them with a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = conv(3, 16), conv(16, 16), conv(16, 16)
        self.down, self.shortcut, self.fc = conv(16, 32, stride=2), conv(16, 32, 1, 2), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        x = functional.relu(x + self.second(functional.relu(self.first(x))))
        x = functional.relu(self.down(x) + self.shortcut(x))
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Inverted(nn.Module):
    """As MobileNetV2: depthwise, ReLU6, a sum without an activation behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.expand, self.depth = conv(3, 16), conv(16, 32, 1), conv(32, 32, groups=32)
        self.project, self.fc = conv(32, 16, 1), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu6(self.stem(x))
        x = x + self.project(functional.relu6(self.depth(functional.relu6(self.expand(x)))))
        return self.fc(x.mean((2, 3)))


class Excited(nn.Module):
    """As EfficientNet: squeeze and excite, and a concatenation as a DenseNet's, and poolings."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.squeeze, self.excite = conv(3, 16), nn.Conv2d(16, 8, 1), nn.Conv2d(8, 16, 1)
        self.more, self.fc = conv(16, 16), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.stem(x)), 2)
        scale = torch.sigmoid(self.excite(functional.relu(self.squeeze(functional.adaptive_avg_pool2d(x, 1)))))
        x = x * scale
        x = torch.cat([x, functional.relu(self.more(x))], 1)
        return self.fc(functional.adaptive_avg_pool2d(functional.avg_pool2d(x, 2), 1).flatten(1))


NETWORKS: dict[str, Callable[[], nn.Module]] = {"residual": Residual, "inverted": Inverted, "excited": Excited}


def trained(name: str) -> nn.Module:
    """Return a network with batch norm statistics of its own images, as training leaves them."""
    torch.manual_seed(1)
    network = NETWORKS[name]()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    with torch.no_grad():
        network.train()(IMAGES)
    return network.eval()


def float_file(name: str) -> onnx.ModelProto:
    return onnx.load_from_string(export(trained(name), IMAGES[:4], LIMITS))


def weights_of(data: bytes) -> int:
    """Return how many numbers a float ONNX file holds."""
    return sum(int(np.prod(tensor.dims)) for tensor in onnx.load_from_string(data).graph.initializer)


def largest_weight(data: bytes) -> int:
    """Return the size of the largest int8 weight of an INT8 ONNX file."""
    found = [t for t in onnx.load_from_string(data).graph.initializer if t.data_type == TensorProto.INT8 and t.dims]
    return max(int(np.abs(numpy_helper.to_array(tensor).astype(int)).max()) for tensor in found)
