"""Is a skeleton as fast as the whole file, and how much less does it send? Three nets, one table.

    python benchmarks/skeletons.py [--device local] [--repeats 5]

The whole file is the reference that the skeleton takes turns with, block by block, in one process on the device; the
mean ratio of their median latencies is printed with its 95 % interval over the repeats.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pipeline.devices.agent_client import open_agent
from pipeline.devices.inventory.load import load_inventory
from pipeline.export.format import open_format
from pipeline.measurement.intervals import mean_interval
from pipeline.models import load_model
from pipeline.pruning.trace import trace

NETS = (("resnet20", 10, (3, 32, 32)), ("mobilenet_v2", 1000, (3, 224, 224)), ("resnet18", 1000, (3, 224, 224)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="local")
    parser.add_argument("--inventory", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    print(f"{'net':<14}{'whole file':>14}{'skeleton':>12}{'share':>9}{'p50 whole':>12}{'skeleton / whole ± 95 %':>30}")
    with open_agent(load_inventory(args.inventory).device(args.device)) as agent:
        for name, classes, shape in NETS:
            torch.manual_seed(0)
            net = load_model(name, classes=classes, channels=shape[0], weights=None)
            images = torch.randn(2, *shape)
            network = trace(net, images)
            made = open_format(agent.device.format, network, images, support=agent.onnx_support, on_note=print)
            whole = made.file(network)
            weightless = made.skeleton(network).data
            settings = replace(agent.device.measure, min_s=4.0)
            measured = [
                agent.measure(weightless, "skeleton", reference=(whole, agent.device.format), settings=settings)
                for _ in range(args.repeats)
            ]
            ratios = [m.ratio.value for m in measured if m.ratio]
            p50 = np.median([m.p50_ms.value for m in measured])
            interval = mean_interval(np.array(ratios))
            shown = f"{interval.value:.4f} ± {interval.half_width:.4f}"
            sizes = f"{len(whole):>12,} B{len(weightless):>10,} B{len(weightless) / len(whole):>9.3%}"
            print(f"{name:<14}{sizes}{p50:>9.3f} ms{shown:>30}")


if __name__ == "__main__":
    main()
