"""`pipeline devices bench-ops`: where INT8 is faster on a board, and where it is slower."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from pipeline import serialization
from pipeline.cli.console import out, print_json
from pipeline.cli.views.live import view
from pipeline.cli.views.lock_wait import print_when_waiting
from pipeline.cli.views.run import table_of
from pipeline.errors import ModelError
from pipeline.quantization.operator_bench import KINDS, Kind, OperatorRatio, operator_ratios
from pipeline.records import Device

_LEGEND = (
    "latency of four equal layers in a row, INT8 over float32, measured in turns; ± is half the 95 % interval\n"
    "below 1 INT8 is faster; a layer on the wrong side of 1 costs a network what the others gain"
)


def bench_and_show(device: Device, widths: Sequence[int], sides: Sequence[int], *, json: bool) -> None:
    """Measure, and print a row for each kind of layer and map.

    Raises:
        ModelError: the device runs no INT8 files of ours.
        DeviceError, MeasureError: it failed.
    """
    from pipeline.devices.agent_client import open_agent

    with view() as show, open_agent(device, on_event=print_when_waiting()) as agent:
        runtime = agent.device.runtime
        if device.format != "onnx" or runtime == "tensorrt":
            raise ModelError(
                f"{device.name} runs {device.format} files with {runtime}; INT8 layers are measured with runtime "
                "onnxruntime: name such a device"
            )
        agent.hold()
        found = list(operator_ratios(agent, widths=widths, sides=sides, listen=show))
    if json:
        print_json([serialization.dump(one) for one in found])
        return
    out.print(table(found, widths, sides))
    out.print(_LEGEND, style="dim")


def table(found: Sequence[OperatorRatio], widths: Sequence[int], sides: Sequence[int]) -> Table:
    """Return a row for each kind of layer and map, a column for each width."""
    by_place = {(one.kind, one.side, one.width): one for one in found}
    rows = table_of("layer", "map", *(f"{width} channels" for width in widths))
    for kind in KINDS:
        for side in sides:
            rows.add_row(kind, f"{side}×{side}", *(_cell(by_place, kind, side, width) for width in widths))
    return rows


def _cell(found: dict[tuple[Kind, int, int], OperatorRatio], kind: Kind, side: int, width: int) -> Text:
    one = found.get((kind, side, width))
    if one is None or one.ratio is None:
        return Text("invalid", style="dim")
    style = "green" if one.ratio.high < 1 else "red" if one.ratio.low > 1 else ""
    return Text(f"{one.ratio.value:.2f} ±{one.ratio.half_width:.2f}", style=style)
