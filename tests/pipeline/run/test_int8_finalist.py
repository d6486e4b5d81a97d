"""A finalist in INT8 beside its float parent: as it is where they answer alike, else with float blocks, and a note."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, fx, nn

from pipeline.devices.agent_client import Agent
from pipeline.export.format import open_format
from pipeline.export.quantization.host_scores import open_on_host
from pipeline.export.quantization.int8_settings import Int8Settings
from pipeline.pruning.trace import trace
from pipeline.run.context import Context
from pipeline.run.int8_finalist import quantize_finalist
from pipeline.run.int8_trial import int8_format
from pipeline.store import Store
from tests.pipeline.export.quantization.networks import HERE
from tests.pipeline.listening import Listener
from tests.pipeline.run.toy_run import CLASSES, toy_context

OUTLIER = 3000.0


class Deep(nn.Module):
    """Six convolutions in a row."""

    def __init__(self) -> None:
        super().__init__()
        widths = [1, 8, 8, 8, 8, 8, 8]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = torch.relu(conv(x))
        return self.fc(x.mean((2, 3)))


@pytest.fixture
def heard() -> Listener:
    return Listener()


@pytest.fixture
def context(new_store: Store, null_agent: Agent, heard: Listener) -> Context:
    found = toy_context(new_store, null_agent, heard)
    parent = open_format("onnx", deep(found), found.example, support=null_agent.onnx_support)
    return replace(found, format=int8_format(replace(found, format=parent), Int8Settings(scheme=HERE)))


def deep(context: Context, outlier: float = 1.0) -> fx.GraphModule:
    """A network whose third layer makes one channel so much larger, which the fourth layer takes back."""
    torch.manual_seed(3)
    network = Deep()
    with torch.no_grad():
        for conv in network.convs:
            nn.init.kaiming_normal_(conv.weight)
        large, small = network.convs[2], network.convs[3]
        large.weight[0] *= outlier
        large.bias[0] *= outlier
        small.weight[:, 0] /= outlier
    return trace(network.eval(), context.example, classes=CLASSES)


def test_one_that_answers_alike_is_int8_throughout(context: Context, heard: Listener) -> None:
    network = deep(context)
    made = quantize_finalist(context, network, "r1t0")
    assert made.data == context.format.file(network)
    assert (made.float_layers, made.weight_bits) == ((), HERE.weight_bits)
    assert made.agreement >= 0.95
    assert heard.notes == []
    assert heard.stages == ["Compare r1t0 in INT8 with its float32 parent"]


def test_where_int8_hurts_layers_stay_float_and_it_is_said(context: Context, heard: Listener) -> None:
    network = deep(context, outlier=OUTLIER)
    images = next(context.data.search.batches(16))[0].numpy()
    parent = open_on_host(context.format.parent.file(network))(images).argmax(1)  # type: ignore[attr-defined]
    whole = open_on_host(context.format.file(network))(images).argmax(1)
    assert (whole == parent).mean() < 0.95
    made = quantize_finalist(context, network, "r1t0")
    assert {"convs.2.weight", "convs.3.weight"} <= set(made.float_layers)
    assert len(made.float_layers) < 7
    assert made.agreement >= 0.95
    assert (open_on_host(made.data)(images).argmax(1) == parent).mean() == made.agreement
    assert heard.notes[0].startswith("r1t0: INT8 answers ")
    assert "runs of layers are tried in float32" in heard.notes[0]
    assert "; in float32 stay convs." in heard.notes[1]
