"""From a model spec such as ``resnet20``, ``net.py:build`` or ``net.onnx`` to a network, with weights from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from pipeline.config import is_model_file
from pipeline.data.dataset import DataSet
from pipeline.errors import ModelError, nearest
from pipeline.events import Listener, unheard
from pipeline.models import user_factory
from pipeline.models.checkpoints import is_weights_file, load_backbone, load_weights
from pipeline.models.cifar_resnet import DEPTHS, CifarResNet
from pipeline.models.digits_cnn import DigitsCNN
from pipeline.models.efficientnet_lite import SCALES, EfficientNetLite
from pipeline.models.heads import replace_head

DIGITS_CNN = "digits-cnn"
TINY_SIDE = 16
"""Images up to so many pixels a side suit digits-cnn."""
SMALL_SIDE = 64
"""Images up to so many pixels a side suit a CIFAR ResNet, whose first convolution keeps the size."""


def load_model(
    spec: str,
    *,
    classes: int,
    channels: int,
    weights: Path | None,
    weights_key: str | None = None,
    head: Literal["new"] | None = None,
    example: Tensor | None = None,
    listen: Listener = unheard,
) -> nn.Module:
    """Build a network in evaluation mode, float32.

    Args:
        spec: ``digits-cnn``; a CIFAR ResNet (``resnet20``, 32, 44, 56, 110); another network at CIFAR's size
            (:mod:`pipeline.models.cifar_networks`); ``efficientnet_lite0`` to ``4``; a torchvision classification
            network; ``package.module:factory`` or ``file.py:factory``; an ONNX file, which brings its weights, classes
            and channels.
        classes: outputs of the last layer.
        channels: of the input; given to a factory of the user's own that takes it by a usual name.
        weights: a checkpoint; None: the network's initial values.
        weights_key: under which keys of the checkpoint the weights stand; None: the only set that fits.
        head: ``new``: the weights are of other classes, and the last layer is a new one with random values.
        example: real images, (N, C, H, W), on which an ONNX file's network has to answer as the file does.
        listen: hears which weights of the checkpoint were taken, and what was left out of an ONNX file.

    Raises:
        ModelError: unknown, cannot be built, or the weights do not fit.
    """
    is_file = is_model_file(spec)
    model = _of_file(spec, weights, example, listen) if is_file else _build(spec, classes, channels).float()
    if head == "new":
        name = replace_head(model.eval(), classes)
        if weights is not None:
            load_backbone(model, weights, name, key=weights_key, listen=listen)
    elif weights is not None:
        load_weights(model, weights, key=weights_key, listen=listen)
    return model.eval()


def dimensions_of(model: nn.Module) -> int | None:
    """Return along how many dimensions a network's first convolution works: 1 for signals; None: it has none."""
    first = next((m for m in model.modules() if isinstance(m, nn.modules.conv._ConvNd)), None)
    return None if first is None else len(first.kernel_size)


def file_side(spec: str | None) -> int | None:
    """Return the side of the square images that an ONNX file takes; None: they are not square, or it is no such file.

    Raises:
        ModelError: the file cannot be read.
    """
    if spec is None or not is_model_file(spec):
        return None
    from pipeline.models.onnx_import.model_file import read_file

    _, *sides = read_file(Path(spec)).shape
    return sides[0] if len(sides) == 2 and sides[0] == sides[1] else None


def default_model(data: DataSet) -> str:
    """Return the spec of a network that suits the images' size.

    Raises:
        ModelError: they are signals, or for a task, for which there is none.
    """
    if not data.task.puts_into_classes:
        raise ModelError(
            f"there is no usual network for task {data.task.name}; give one of your own: --model file.py:FACTORY"
        )
    if data.has_signals:
        raise ModelError(
            f"{data.name} is of signals, {data.shape[0]} x {data.shape[1]}, for which there is no usual network; give "
            "one of your own: --model file.py:FACTORY"
        )
    side = max(data.shape[1:])
    if side <= TINY_SIDE:
        return DIGITS_CNN
    return "resnet20" if side <= SMALL_SIDE else "mobilenet_v2"


def _of_file(spec: str, weights: Path | None, example: Tensor | None, listen: Listener) -> nn.Module:
    from pipeline.models.onnx_import import load_onnx  # onnxruntime takes its time to import, and only this needs it

    if weights is not None:
        raise ModelError(
            f"{spec} holds its weights, but {weights} is given beside it; leave --weights out (weights: in run.yaml), "
            "or give the network that they are of: --model file.py:FACTORY"
        )
    return load_onnx(Path(spec), example=example, listen=listen)


def _build(spec: str, classes: int, channels: int) -> nn.Module:
    if spec == DIGITS_CNN:
        return DigitsCNN(classes=classes, channels=channels)
    if spec in DEPTHS:
        return CifarResNet(DEPTHS[spec], classes=classes, channels=channels)
    if spec in SCALES:
        return EfficientNetLite(SCALES[spec], classes=classes, channels=channels)
    if ":" in spec:
        return user_factory.build(spec, classes=classes, channels=channels)
    return _from_torchvision(spec, classes, channels)


def _from_torchvision(name: str, classes: int, channels: int) -> nn.Module:
    from pipeline.models import cifar_networks, torchvision_models  # a second to import, and only these need it

    if name in cifar_networks.NETWORKS:
        return cifar_networks.build(name, classes=classes, channels=channels)
    known = [DIGITS_CNN, *DEPTHS, *SCALES, *cifar_networks.NETWORKS, *torchvision_models.names()]
    if name in known:
        return torchvision_models.build(name, classes=classes, channels=channels)
    if is_weights_file(name):
        raise ModelError(f"{name} holds weights, not a network; write --model NETWORK --weights {name}")
    if Path(name).suffix == ".py":
        raise ModelError(f"{name} does not say which function builds the network; write {name}:FACTORY")
    raise ModelError(
        f"unknown model {name!r}{nearest(name, known)}; known are {DIGITS_CNN}, {', '.join(DEPTHS)}, "
        f"{', '.join((*SCALES, *cifar_networks.NETWORKS))}, torchvision's "
        "classification networks, package.module:factory, file.py:factory and FILE.onnx"
    )
