"""`pipeline apply`: cut another checkpoint as a run has cut its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from pipeline.cli.console import err, out, print_json
from pipeline.cli.options import Inventory, Json, WeightsKey

if TYPE_CHECKING:
    from pipeline.recipes.apply_to_checkpoint import AppliedCheckpoint


def apply(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe.json, or the folder that pull wrote.")],
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            metavar="FILE",
            help="The checkpoint: .pt, .pth, .pth.tar, .ckpt, .th or .safetensors; none where --model is a .onnx file.",
        ),
    ] = None,
    weights_key: WeightsKey = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Name, package.module:factory, file.py:factory or net.onnx; default: the recipe's."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="A folder that is new or empty; default: FILE-pruned."),
    ] = None,
    rank: Annotated[
        Literal["recipe", "criterion"],
        typer.Option(
            "--rank", help="recipe: the same channels stay; criterion: as many, ranked anew on this checkpoint."
        ),
    ] = "recipe",
    data: Annotated[
        str | None,
        typer.Option("--data", help="digits, cifar10:DIR, …: re-estimates batch norm and reads the accuracy."),
    ] = None,
    format: Annotated[
        str, typer.Option("--format", help="Of the model file: onnx, tflite, or a .py file of your own.")
    ] = "onnx",
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="TASK", help="file.py:TASK, where the recipe is of a task of your own."),
    ] = None,
    inventory: Inventory = None,  # noqa: ARG001 - every verb takes it, so that a script may pass it always
    json: Json = False,
) -> None:
    """Cut another checkpoint of the same architecture as a recipe says; needs no device."""
    from deploy.applied import write_applied
    from deploy.folder import refuse_used
    from pipeline.store.new_run import require_writable

    folder = output or Path(f"{(weights or Path(model or recipe)).stem}-pruned")
    refuse_used(folder, "pruned network")
    require_writable(folder)
    from pipeline.recipes.apply_to_checkpoint import ApplyRequest, apply_to_checkpoint  # torch takes seconds to import

    request = ApplyRequest(
        recipe=recipe,
        weights=weights,
        weights_key=weights_key,
        model=model,
        rank=rank,
        data=data,
        format=format,
        task=task,
    )
    with err.status("reading the recipe …") as status:
        found = apply_to_checkpoint(request, lambda note: status.update(Text(f"{note} …")))
    manifest = write_applied(found.files, found.format, found.facts(), folder)
    if json:
        print_json({"folder": str(folder.absolute()), **manifest})
    else:
        _print(found, folder)


def _print(found: AppliedCheckpoint, folder: Path) -> None:
    from pipeline.report.table import Row, capitalised, precision_in_words, size, weights

    rows = weights(found.base, found.pruned)
    rows.append(Row("weights.safetensors", size(found.base.weights_bytes), size(found.pruned.weights_bytes), ""))
    if seen := found.accuracy:
        points = f"{100 * (seen.pruned - seen.base):+.2f} points".replace("-", "−")
        rows.insert(
            0,
            Row(f"{capitalised(found.metric)}, {seen.images} images", f"{seen.base:.2%}", f"{seen.pruned:.2%}", points),
        )
        if seen.int8 is not None:
            points = f"{100 * (seen.int8 - seen.base):+.2f} points".replace("-", "−")
            rows.insert(1, Row("… of the INT8 file", f"{seen.base:.2%}", f"{seen.int8:.2%}", points))
    table = Table(
        "",
        "checkpoint",
        "pruned" if found.precision == "float32" else f"pruned, {precision_in_words(found.precision)}",
        "change",
        box=None,
        header_style="bold",
        pad_edge=False,
    )
    for row in rows:
        table.add_row(row.measure, row.base, row.pruned, row.change)
    out.print(table)
    out.print(_notes(found), style="dim", markup=False)
    names = ", ".join([*found.files, "manifest.json"])
    out.print(Text("✓ ", style="green").append(f"{folder}: {names}", style="not bold default"))


def _notes(found: AppliedCheckpoint) -> str:
    whose = (
        "the recipe's channels stay" if found.request.rank == "recipe" else "channels ranked anew on this checkpoint"
    )
    if any(cut.zeros for cut in found.recipe.cuts):
        whose = "zero is as much of each layer as the recipe says, the smallest weights of this checkpoint"
    same = "the checkpoint is the one that the recipe was made with" if found.same_weights else "another checkpoint"
    recovery = (
        f"its weights are as they were before the cut: give --data to fit them to it and to read the {found.metric}"
        if found.accuracy is None
        else f"{found.recovery} on training images, {found.metric} read on the search split; not fine-tuned"
    )
    return f"{whose}; {same}\n{recovery}{_precision(found)}"


def _precision(found: AppliedCheckpoint) -> str:
    """Return a line on the precision in which the recipe's own network computed, where that was not float32."""
    if found.why_float:
        return f"\n{found.why_float}"
    if found.precision == "fp16":
        file = found.format.file
        return f"\n{file} asks TensorRT for FP16, as the recipe's own did; other runtimes compute it in float32"
    if found.accuracy is not None and found.accuracy.agreement is not None:
        return f"\nINT8, as the recipe's network; {found.accuracy.agreement:.1%} of the images into float32's class"
    return ""
