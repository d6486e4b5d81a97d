"""What a quantized network's bundle holds, and what its manifest says."""

from __future__ import annotations

import hashlib
from typing import Any

from deploy.companions import companions
from deploy.facts import NetworkInput
from deploy.manifest import describe_input
from pipeline import __version__, serialization
from pipeline.export.format import INPUT, float_parent
from pipeline.export.format_plugin import model_format
from pipeline.quantization.quantized_model import QuantizedModel
from pipeline.records import DeviceFacts, ModelFormat


def format_of(quantized: QuantizedModel) -> ModelFormat:
    """Return the format of the bundle's files."""
    return model_format(quantized.format)


def files(quantized: QuantizedModel) -> dict[str, bytes]:
    """Return the bundle's files: the INT8 network, its float parent, and what is needed to run them."""
    format = format_of(quantized)
    texts = companions(format, quantized.data.classes)
    return {
        format.file: quantized.file.data,
        float_parent(format.ending): quantized.parent,
        **{name: text.encode() for name, text in texts.items()},
    }


def facts(quantized: QuantizedModel, *, source: str, device: str, board: DeviceFacts) -> dict[str, Any]:
    """Return what the manifest says of it, as JSON values.

    Args:
        source: the file or the run that it was made of.
        device: as the inventory calls it.
        board: which board that is.
    """
    file, data = quantized.file, quantized.data
    fitting = data.fitting
    fed = NetworkInput(
        name=INPUT, shape=quantized.shape, mean=data.mean, std=data.std,
        resize=fitting.resize if fitting else None, interpolation=fitting.interpolation if fitting else "bilinear",
    )  # fmt: skip
    return {
        "source": source,
        "classes": list(data.classes),
        "input": describe_input(fed),
        "quantization": {
            "precision": "int8",
            "scheme": file.scheme.name,
            "weights": "int8, symmetric, a scale for each output channel",
            "weight_bits": file.scheme.weight_bits,
            "activations": "int8" if file.scheme.is_signed else "uint8",
            "operators": file.operators,
            "float_layers": list(file.float_layers),
            "ranges": {name: list(found) for name, found in sorted(file.ranges.items())},
            "calibration": {
                "data": data.name,
                "split": "train",
                "images": quantized.calibration_images,
                "sha256": quantized.calibration_sha256,
            },
            "parent": {"file": float_parent(quantized.format), "sha256": hashlib.sha256(quantized.parent).hexdigest()},
        },
        "device": {"name": device, **serialization.dump(board)},
        "accuracy": {"data": data.name, "split": "test", **serialization.dump(quantized.judged)},
        "figures": {
            "float32": {
                "size_bytes": len(quantized.parent),
                "measurement": serialization.dump(quantized.float32),
            },
            "int8": {"size_bytes": len(file.data), "measurement": serialization.dump(quantized.int8)},
            "is_faster": quantized.is_faster,
            "uncertainty": "low and high bound the 95 % confidence interval of value",
        },
        "verified": serialization.dump(quantized.verified),
        "versions": {"pipeline": __version__},
    }
