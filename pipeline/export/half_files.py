"""Model files in half precision: weights of 16 bits, half the bytes; they take and give float32 as before.

On processors they are no faster than float32: ONNX Runtime computes half precision by widening it (1.03 times the
latency of a ResNet-20), TFLite's interpreter widens the weights once, as it loads the file.
"""

from __future__ import annotations

import warnings

import onnx

from pipeline.errors import ExportError, first_line
from pipeline.export.format import INPUT, OUTPUT
from pipeline.export.quantization.litert_quantizer import FloatFile
from pipeline.export.tflite import flatbuffer


def onnx_in_half(file: bytes) -> bytes:
    """Return a float32 ONNX file whose weights and values are of 16 bits; raises ExportError."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of weights that are smaller than 16 bits hold, and become 0
            made = convert_float_to_float16(onnx.load_from_string(file), keep_io_types=True)
    except Exception as error:  # the converter's errors share no base
        raise ExportError(f"the file cannot be written in half precision: {first_line(error)}") from error
    data: bytes = made.SerializeToString(deterministic=True)
    return data


def tflite_in_half(file: bytes) -> bytes:
    """Return a float32 TFLite file whose weights are of 16 bits, and whose values stay float32; raises ExportError."""
    from ai_edge_quantizer import qtyping, quantizer  # takes seconds to import

    weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    how = qtyping.OpQuantizationConfig(
        weight_tensor_config=weights, compute_precision=qtyping.ComputePrecision.FLOAT, explicit_dequantize=True
    )
    whole = quantizer.Quantizer(flatbuffer.write(FloatFile(file).model))
    whole.update_quantization_recipe(
        ".*", qtyping.TFLOperationName.ALL_SUPPORTED, op_config=how,
        algorithm_key=quantizer.AlgorithmName.FLOAT_CASTING,
    )  # fmt: skip
    try:
        made = whole.quantize(enable_progress_bar=False, enable_progress_report=False)
    except Exception as error:  # the quantizer's errors share no base
        raise ExportError(f"the file cannot be written in half precision: {first_line(error)}") from error
    model = flatbuffer.read(bytes(made.quantized_model))
    flatbuffer.name_ends(model, INPUT, OUTPUT)
    return flatbuffer.write(model)
