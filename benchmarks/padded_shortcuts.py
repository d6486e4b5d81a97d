"""What does it save to write padded shortcuts as convolutions? The same network both ways, measured in turns.

    python benchmarks/padded_shortcuts.py [--device NAME] [--inventory FILE] [--models resnet20 resnet56]

Each network is measured whole, and with every other block removed that can go. Weights are random: no time depends on
them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from _common.results import table
from torch import fx

from pipeline.devices.agent_client import Agent, open_agent
from pipeline.devices.inventory.load import load_inventory
from pipeline.export.format import INPUT, OUTPUT
from pipeline.export.onnx.exporter import export
from pipeline.export.onnx.torch_exporter import exported, opset_of
from pipeline.models import load_model
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import cut
from pipeline.pruning.trace import trace
from pipeline.records import OnnxSupport

EXAMPLE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="local")
    parser.add_argument("--inventory", type=Path)
    parser.add_argument("--models", nargs="+", default=["resnet20", "resnet56"])
    args = parser.parse_args()
    rows = []
    with open_agent(load_inventory(args.inventory).device(args.device)) as agent:
        agent.hold()
        for name in args.models:
            network = trace(load_model(name, classes=10, channels=3, weights=None), EXAMPLE)
            rows += [[name, *_row(agent, network)], ["  every other block removed", *_row(agent, _shorter(network))]]
    print(f"latency on {args.device}, {agent.facts.cpu}")
    print(table(["", "slices and padding", "convolutions", "of it"], rows))


def _row(agent: Agent, network: fx.GraphModule) -> list[str]:
    plain, support = _plain(network, agent.onnx_support), agent.onnx_support
    found = agent.measure(export(network, EXAMPLE, support), "onnx", reference=(plain, "onnx"))
    assert found.ratio is not None
    assert found.reference_p50_ms is not None
    return [
        f"{found.reference_p50_ms:.3f} ms", f"{found.p50_ms.value:.3f} ms",
        f"{found.ratio.value:.3f} ({found.ratio.low:.3f} to {found.ratio.high:.3f})",
    ]  # fmt: skip


def _plain(network: fx.GraphModule, support: OnnxSupport) -> bytes:
    """Return torch's export as it comes."""
    model = exported(network, (EXAMPLE[:1],), opset_of(support), [INPUT], [OUTPUT])
    model.ir_version = min(model.ir_version, support.ir)
    data: bytes = model.SerializeToString()
    return data


def _shorter(network: fx.GraphModule) -> fx.GraphModule:
    space = search_space(network, EXAMPLE, step=1)
    blocks = list(dict.fromkeys(g.bypass for g in space.groups if g.bypass))[1::2]
    kept = {g.name: 0 if g.bypass in blocks else g.channels for g in space.groups}
    return cut(network, space, kept, {g.name: torch.arange(g.units) for g in space.groups}, EXAMPLE)


if __name__ == "__main__":
    main()
