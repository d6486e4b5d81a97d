"""Operators on each value by itself, or on values that meet."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pipeline.models.onnx_import.graph_builder import Made
from pipeline.models.onnx_import.operator_call import Call, UnfitError

Rule = Callable[[Call], Made]


def unary(target: Callable[..., Any]) -> Rule:
    """Return the rule of a function of one value."""
    return lambda call: call.build.function(target, call.tensor(0))


def arithmetic(target: Callable[..., Any]) -> Rule:
    """Return the rule of a function of two values; a constant of one number is written as such."""

    def rule(call: Call) -> Made:
        if len(call.inputs) != 2:
            raise UnfitError(f"it has {len(call.inputs)} inputs, expected are 2")
        return call.build.function(target, *(_operand(call, place) for place in range(2)))

    return rule


def every(target: Callable[..., Any]) -> Rule:
    """Return the rule of a function of any number of values, which is applied to one after another."""

    def rule(call: Call) -> Made:
        found = call.tensor(0)
        for place in range(1, len(call.inputs)):
            found = call.build.function(target, found, call.tensor(place))
        return found

    return rule


def power(call: Call) -> Made:
    """Pow by a number."""
    exponent = _operand(call, 1)
    if exponent == 0.5:
        return call.build.function(torch.sqrt, call.tensor(0))
    return call.build.function(torch.pow, call.tensor(0), exponent)


def clip(call: Call) -> Made:
    """Clip: the ReLUs that it stands for, or a clamp."""
    low, high = _bound(call, "min", 1, -math.inf), _bound(call, "max", 2, math.inf)
    value = call.tensor(0)
    if low == 0 and high == 6:
        return call.build.function(functional.relu6, value)
    if low == 0 and high == math.inf:
        return call.build.function(functional.relu, value)
    return call.build.function(torch.clamp, value, *(None if math.isinf(bound) else bound for bound in (low, high)))


def leaky_relu(call: Call) -> Made:
    """LeakyRelu."""
    return call.build.function(functional.leaky_relu, call.tensor(0), float(call.attribute("alpha", 0.01)))


def elu(call: Call) -> Made:
    """Elu."""
    return call.build.function(functional.elu, call.tensor(0), float(call.attribute("alpha", 1.0)))


def celu(call: Call) -> Made:
    """Celu."""
    return call.build.function(functional.celu, call.tensor(0), float(call.attribute("alpha", 1.0)))


def hard_sigmoid(call: Call) -> Made:
    """HardSigmoid, torch's own where its slope is a sixth."""
    alpha, beta = float(call.attribute("alpha", 0.2)), float(call.attribute("beta", 0.5))
    value = call.tensor(0)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-4) and beta == 0.5:
        return call.build.function(functional.hardsigmoid, value)
    line = call.build.function(operator.add, call.build.function(operator.mul, value, alpha), beta)
    return call.build.function(torch.clamp, line, 0.0, 1.0)


def gelu(call: Call) -> Made:
    """Gelu."""
    return call.build.function(functional.gelu, call.tensor(0), approximate=call.text("approximate", "none"))


def cast(call: Call) -> Made:
    """Cast to what it is already: networks are float32."""
    if call.attribute("to") != 1:
        raise UnfitError("it casts what depends on the image to another type than float32")
    return call.tensor(0)


def same(call: Call) -> Made:
    """Do nothing."""
    return call.tensor(0)


def softmax(target: Callable[..., Any]) -> Rule:
    """Return the rule of a softmax; before operator set 13 it was over all dimensions from its axis on."""

    def rule(call: Call) -> Made:
        value, older = call.tensor(0), call.opset < 13
        axis = int(call.attribute("axis", 1 if older else -1)) % len(value.shape)
        if axis == 0 or (older and math.prod(value.shape[axis + 1 :]) != 1):
            raise UnfitError("it normalises over more than one dimension, or over images")
        return call.build.function(target, value, axis)

    return rule


def _bound(call: Call, name: str, place: int, default: float) -> float:
    if (given := call.attribute(name)) is not None:
        bound = float(given)
    else:
        found = call.optional(place)
        bound = default if found is None else float(found.item())
    return default if abs(bound) >= float(np.finfo(np.float32).max) else bound


def _operand(call: Call, place: int) -> Made | float:
    found = call.inputs[place] if call.has(place) else None
    if isinstance(found, np.ndarray) and found.size == 1:
        return float(found.item())
    return call.tensor(place)
