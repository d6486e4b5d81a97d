"""Is a skeleton as fast as the whole file, and how much less does it send? Three nets in float32 and INT8, one table.

    python benchmarks/skeletons.py [--device local] [--repeats 5] [--precision float32 int8] [--nets resnet20]

The whole file is the reference that the skeleton takes turns with, block by block, in one process on the device; the
mean ratio of their median latencies is printed with its 95 % interval over the repeats; within 2 % of 1 is the aim.
Seconds of this process, once the format is open, the median of five: of making a candidate's skeleton, which every one
needs; of its whole float32 file; and in INT8 of what comes on top of that to read its accuracy (ranges over 32 images,
the quantized file, the check of its operators). Aims of the last: 0.25 s for ResNet-20, 0.6 s for MobileNetV2.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import fx

from pipeline.devices.agent_client import Agent, open_agent
from pipeline.devices.inventory.load import load_inventory
from pipeline.export.format import FLOAT32, INT8, Format, open_format
from pipeline.export.quantization.int8_settings import Int8Settings
from pipeline.export.quantization.open_int8 import open_int8
from pipeline.export.quantization.quantize import CALIBRATION_IMAGES
from pipeline.measurement.intervals import mean_interval
from pipeline.models import load_model
from pipeline.pruning.trace import trace

NETS = (("resnet20", 10, (3, 32, 32)), ("mobilenet_v2", 1000, (3, 224, 224)), ("resnet18", 1000, (3, 224, 224)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="local")
    parser.add_argument("--inventory", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--nets", nargs="+", choices=[net[0] for net in NETS], default=[net[0] for net in NETS])
    parser.add_argument("--precision", nargs="+", choices=(FLOAT32, INT8), default=[FLOAT32, INT8])
    args = parser.parse_args()
    head = (
        f"{'net':<14}{'precision':<11}{'skeleton s':>11}{'float s':>9}{'+ INT8 s':>9}{'whole file':>14}{'skeleton':>12}"
    )
    print(f"{head}{'share':>9}{'p50 whole':>12}{'skeleton / whole ± 95 %':>27}")
    with open_agent(load_inventory(args.inventory).device(args.device)) as agent:
        for name, classes, shape in (net for net in NETS if net[0] in args.nets):
            torch.manual_seed(0)
            net = load_model(name, classes=classes, channels=shape[0], weights=None)
            images = torch.randn(CALIBRATION_IMAGES, *shape)
            network = trace(net, images[:2])
            parent = open_format(agent.device.format, network, images[:2], support=agent.onnx_support, on_note=print)
            settings = Int8Settings(operators=agent.int8_operators)
            formats = {FLOAT32: parent, INT8: open_int8(parent, images.numpy(), settings)}
            for precision in args.precision:
                show(name, precision, formats, network, agent, args.repeats)


def show(
    name: str, precision: str, formats: dict[str, Format], network: fx.GraphModule, agent: Agent, repeats: int
) -> None:
    """Print the row of one network in one precision."""
    made = formats[precision]
    whole, weightless = made.file(network), made.skeleton(network).data
    skeleton_s, float_s = seconds(made.skeleton, network), seconds(formats[FLOAT32].file, network)
    more = "" if precision == FLOAT32 else f"{seconds(made.file, network) - float_s:.3f}"
    settings = replace(agent.device.measure, min_s=4.0)
    measured = [
        agent.measure(weightless, "skeleton", reference=(whole, agent.device.format), settings=settings)
        for _ in range(repeats)
    ]
    interval = mean_interval(np.array([m.ratio.value for m in measured if m.ratio]))
    p50 = np.median([m.reference_p50_ms for m in measured if m.reference_p50_ms])
    sizes = f"{len(whole):>12,} B{len(weightless):>10,} B{len(weightless) / len(whole):>9.3%}"
    shown = f"{interval.value:.4f} ± {interval.half_width:.4f}"
    times = f"{skeleton_s:>11.3f}{float_s:>9.3f}{more:>9}"
    print(f"{name:<14}{precision:<11}{times}{sizes}{p50:>9.3f} ms{shown:>27}", flush=True)


def seconds(make: Callable[[fx.GraphModule], object], network: fx.GraphModule) -> float:
    """Return the median of five."""
    found = []
    for _ in range(5):
        start = time.perf_counter()
        make(network)
        found.append(time.perf_counter() - start)
    return statistics.median(found)


if __name__ == "__main__":
    main()
