"""Weights that arrive are checked before they are used: names, shapes, size, numbers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save

from pipeline.federated.structure import MOST_NUMBERS, Structure, difference, structure_from
from pipeline.federated.weights import packed, unpacked
from pipeline.search.dqn.policy_file import GROUPS, header_of

SHAPES = {"body.weight": (4, 3), "body.bias": (4,)}
STRUCTURE = Structure(groups=(("conv1", 16), ("conv2", 32)), levels=(0, 25, 50, 75, 100), tensors=SHAPES)
WEIGHTS = {name: np.full(shape, 0.5, np.float32) for name, shape in SHAPES.items()}


def changed(**tensors: np.ndarray) -> bytes:
    return save({**WEIGHTS, **{name.replace("_", "."): values for name, values in tensors.items()}})


def test_what_is_packed_is_a_policy_file_and_comes_back() -> None:
    policy = packed(WEIGHTS, STRUCTURE)
    assert json.loads(header_of(policy)["__metadata__"][GROUPS]) == ["conv1", "conv2"]
    assert all(np.array_equal(values, WEIGHTS[name]) for name, values in unpacked(policy, STRUCTURE).items())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused_by_the_name_of_its_tensor(value: float) -> None:
    bias = WEIGHTS["body.bias"].copy()
    bias[2] = value
    with pytest.raises(ValueError, match=r"tensor body\.bias holds a number that is not finite"):
        unpacked(changed(body_bias=bias), STRUCTURE)


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (changed(body_bias=np.ones(5, np.float32)), r"tensor body.bias has the shape \(5,\); expected \(4,\)"),
        (changed(more=np.ones(1, np.float32)), r"tensor more has the shape \(1,\); expected None"),
        (save({"body.bias": WEIGHTS["body.bias"]}), r"tensor body.weight has the shape None"),
        (changed(body_bias=np.ones(4, np.float64)), "tensor body.bias is not of 32-bit floats"),
        (changed(body_bias=np.full(4, 1e9, np.float32)), r"tensor body.bias holds 1e\+09; at most 10000 is credible"),
        (packed(WEIGHTS, STRUCTURE)[:-4], "cannot be read"),
        (packed(WEIGHTS, STRUCTURE) + bytes(2**21), "bytes; those of this network take"),
        (b"", "not a safetensors file"),
        (b"\xff" * 100, "not a safetensors file"),
        ((2).to_bytes(8, "little") + b"[]", "not a safetensors file"),
    ],
)
def test_weights_of_another_network_or_none_are_refused(policy: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        unpacked(policy, STRUCTURE)


def test_what_differs_between_structures_is_named() -> None:
    assert difference(STRUCTURE, STRUCTURE) is None
    other = replace(STRUCTURE, groups=(("conv1", 16), ("conv2", 64)))
    assert difference(other, STRUCTURE) == (
        "group 2 of layers is conv2 with 64 channels, the federation's is conv2 with 32 channels"
    )
    fewer = replace(STRUCTURE, groups=STRUCTURE.groups[:1])
    assert difference(fewer, STRUCTURE) == "group 2 of layers is none, the federation's is conv2 with 32 channels"
    wider = replace(STRUCTURE, tensors={**SHAPES, "body.weight": (8, 3)})
    assert difference(wider, STRUCTURE) == (
        "tensor body.weight is 8 × 3, the federation's is 4 × 3: other conditions of the data, or "
        "strategy_options (hidden)"
    )
    assert "levels" in str(difference(replace(STRUCTURE, levels=(0, 50)), STRUCTURE))


@pytest.mark.parametrize(
    "text",
    [
        None, 5, "", "[]", "{}", '{"groups": 3, "levels": [], "tensors": {}}', "x" * 2**21,
        '{"groups": [], "levels": [0], "tensors": {}}',
        f'{{"groups": [], "levels": [0], "tensors": {{"a": [{MOST_NUMBERS}, 2]}}}}',
    ],
)  # fmt: skip
def test_a_structure_that_is_none_is_refused(text: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic's words, or ours
        structure_from(text)
