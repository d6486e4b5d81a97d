"""Which rule converts which operator of ONNX."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch.nn import functional

from pipeline.models.onnx_import import layers, pointwise, reshaping, spatial
from pipeline.models.onnx_import.graph_builder import Made
from pipeline.models.onnx_import.operator_call import Call

Rule: TypeAlias = Callable[[Call], Made | tuple[Made, ...]]

OPERATORS: dict[str, Rule] = {
    "BatchNormalization": layers.batch_norm,
    "Conv": layers.convolution,
    "ConvTranspose": layers.transposed_convolution,
    "Dropout": layers.dropout,
    "Gemm": layers.gemm,
    "GroupNormalization": layers.group_norm,
    "InstanceNormalization": layers.instance_norm,
    "LayerNormalization": layers.layer_norm,
    "MatMul": layers.product,
    "PRelu": layers.prelu,
    "AveragePool": spatial.average_pool,
    "GlobalAveragePool": spatial.global_average,
    "GlobalMaxPool": spatial.global_maximum,
    "LRN": spatial.local_response,
    "MaxPool": spatial.max_pool,
    "Pad": spatial.padding,
    "ReduceMax": spatial.reduction(torch.amax),
    "ReduceMean": spatial.reduction(torch.mean),
    "ReduceMin": spatial.reduction(torch.amin),
    "ReduceSum": spatial.reduction(torch.sum),
    "Resize": spatial.resize,
    "Upsample": spatial.resize,
    "Abs": pointwise.unary(torch.abs),
    "Ceil": pointwise.unary(torch.ceil),
    "Erf": pointwise.unary(torch.erf),
    "Exp": pointwise.unary(torch.exp),
    "Floor": pointwise.unary(torch.floor),
    "HardSwish": pointwise.unary(functional.hardswish),
    "Log": pointwise.unary(torch.log),
    "Mish": pointwise.unary(functional.mish),
    "Neg": pointwise.unary(torch.neg),
    "Reciprocal": pointwise.unary(torch.reciprocal),
    "Relu": pointwise.unary(functional.relu),
    "Selu": pointwise.unary(functional.selu),
    "Sigmoid": pointwise.unary(torch.sigmoid),
    "Softplus": pointwise.unary(functional.softplus),
    "Softsign": pointwise.unary(functional.softsign),
    "Sqrt": pointwise.unary(torch.sqrt),
    "Tanh": pointwise.unary(torch.tanh),
    "Add": pointwise.arithmetic(operator.add),
    "Div": pointwise.arithmetic(operator.truediv),
    "Mul": pointwise.arithmetic(operator.mul),
    "Sub": pointwise.arithmetic(operator.sub),
    "Max": pointwise.every(torch.maximum),
    "Min": pointwise.every(torch.minimum),
    "Sum": pointwise.every(operator.add),
    "Cast": pointwise.cast,
    "Celu": pointwise.celu,
    "Clip": pointwise.clip,
    "Elu": pointwise.elu,
    "Gelu": pointwise.gelu,
    "HardSigmoid": pointwise.hard_sigmoid,
    "Identity": pointwise.same,
    "LeakyRelu": pointwise.leaky_relu,
    "LogSoftmax": pointwise.softmax(torch.log_softmax),
    "Pow": pointwise.power,
    "Softmax": pointwise.softmax(torch.softmax),
    "Concat": reshaping.concatenate,
    "DepthToSpace": reshaping.depth_to_space,
    "Expand": reshaping.expand,
    "Flatten": reshaping.flatten,
    "Gather": reshaping.gather,
    "Reshape": reshaping.reshape,
    "Slice": reshaping.slices,
    "Split": reshaping.split,
    "Squeeze": reshaping.squeeze,
    "Transpose": reshaping.transpose,
    "Unsqueeze": reshaping.unsqueeze,
}
"""Those of constants alone, and Shape, are computed while the file is read."""
