"""`pipeline quantize`: a float network becomes INT8, judged on images and measured beside its parent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from pipeline.cli.console import err, out, print_json
from pipeline.cli.options import DEFAULT_RUNS, Config, Data, Inventory, Json, Runs
from pipeline.cli.views.live import view
from pipeline.cli.views.lock_wait import print_when_waiting

if TYPE_CHECKING:
    from pipeline.quantization.quantized_model import QuantizedModel


def quantize(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A float32 ONNX or TFLite classifier, or a run whose network is taken."),
    ],
    data: Data = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="NAME", help="A registered device; default: local, or the run's.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="A folder that is new or empty; default: MODEL-int8."),
    ] = None,
    artifact: Annotated[
        str, typer.Option("--artifact", metavar="ID", help="Of a run: best, or an artifact's id.")
    ] = "best",
    images: Annotated[int, typer.Option("--images", min=1, help="Training images that the ranges are read of.")] = 256,
    float_ends: Annotated[
        bool, typer.Option("--float-ends", help="Keep the first and the last layer in float32.")
    ] = False,
    config: Config = None,
    inventory: Inventory = None,
    runs: Runs = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Quantize a network to INT8, compare it with its float parent on the device, and write a bundle."""
    from deploy.folder import refuse_used
    from pipeline.store.new_run import require_writable

    folder = output or Path(f"{Path(model).stem or 'model'}-int8")
    refuse_used(folder, "quantized network")
    require_writable(folder)
    from pipeline import api  # torch takes seconds to import

    with view() as show:
        found = api.quantize(
            model, data=data, device=device, output=folder, artifact=artifact, images=images, float_ends=float_ends,
            config=config, inventory=inventory, runs=runs, listen=show, on_event=print_when_waiting(),
        )  # fmt: skip
    if json:
        print_json(as_json(found, folder))
        return
    out.print(table(found))
    for note in notes(found):
        out.print(note, style="dim", markup=False)
    shown = f"model.{found.format} (INT8), float32.{found.format}"
    out.print(Text("✓ ", style="green").append(f"{folder}: {shown}, manifest.json, example.py"))
    err.print(f"next    python {folder}/example.py IMAGE", markup=False)


def table(found: QuantizedModel) -> Table:
    """Return float32 beside INT8: accuracy, latency, power, energy, size."""
    from pipeline.report.table import measured_rows, size, times

    judged, change = found.judged, found.judged.change
    points = f"{100 * change.value:+.2f} points [{100 * change.low:+.2f}, {100 * change.high:+.2f}]".replace("-", "−")
    rows = Table("", "float32", "INT8", "change", box=None, header_style="bold", pad_edge=False)
    rows.add_row(f"Accuracy, {judged.images} test images", f"{judged.float32:.2%}", f"{judged.int8:.2%}", points)
    for row in measured_rows(found.float32, found.int8):
        rows.add_row(row.measure, row.base, row.pruned, row.change)
    before, after = len(found.parent), len(found.file.data)
    rows.add_row("Model file", size(before), size(after), times(after, before))
    return rows


def notes(found: QuantizedModel) -> list[str]:
    """Return what goes with the table, in sentences."""
    file, judged = found.file, found.judged
    lines = [
        f"{file.operators} of {file.planned} operators compute in INT8; both files put {judged.agreement:.2%} of the "
        "images into the same class"
    ]
    if file.float_layers:
        lines.append(f"in float32 stay: {', '.join(file.float_layers)}")
    if found.verified is not None:
        lines.append(
            f"on the device, {found.verified.same_class:.1%} of {found.verified.images} images are put into the class "
            "that this machine finds with the same file"
        )
    if not found.is_faster:
        lines.append(f"INT8 is no faster on this device: deploy float32.{found.format}, unless its size decides")
    if not judged.is_good:
        lines.append("INT8 loses more than is usual here: look at which classes suffer before you deploy it")
    return lines


def as_json(found: QuantizedModel, folder: Path) -> dict[str, Any]:
    """Return the manifest, and where it lies."""
    from pipeline.serialization import from_text

    manifest: dict[str, Any] = from_text((folder / "manifest.json").read_text("utf-8"))
    return {"folder": str(folder.absolute()), "is_faster": found.is_faster, **manifest}
