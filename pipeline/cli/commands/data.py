"""`pipeline data`: conditions that images may be under, and a data set written as it looks under one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import err, out, print_json
from pipeline.cli.options import Inventory, Json
from pipeline.cli.views.live import view

app = typer.Typer(help="Images as they look in fog, at night, with noise: list, write.", no_args_is_help=True)


@app.command()
def conditions(inventory: Inventory = None, json: Json = False) -> None:  # noqa: ARG001 - every verb takes it
    """List the conditions that --condition takes."""
    from pipeline.cli.views.run import table_of
    from pipeline.data.conditions import JUDGING, KINDS, TRAINING  # torch takes seconds to import

    if json:
        print_json({"kinds": list(KINDS), "severities": [1, 2, 3, 4, 5], "training": TRAINING, "judging": JUDGING})
        return
    table = table_of("condition", "what it does", "set")
    table.add_row("clean", "Nothing.", "")
    for kind, function in KINDS.items():
        said = (function.__doc__ or "").partition("\n")[0]
        table.add_row(f"{kind}:1 … {kind}:5", said, "judging" if kind in JUDGING else "training")
    out.print(table)
    out.print(
        "judging: kept for judging what was chosen or trained under the others; severities are those of Hendrycks and "
        "Dietterich 2019",
        style="dim",
    )


@app.command()
def corrupt(
    data: Annotated[str, typer.Argument(metavar="DATA", help="digits, cifar10:DIR, imagefolder:DIR, …, as --data.")],
    condition: Annotated[
        str, typer.Option("--condition", metavar="KIND:SEVERITY", help="fog:3, night:2, …: pipeline data conditions")
    ],
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="A folder that is new or empty.")],
    image_size: Annotated[
        int | None, typer.Option("--image-size", min=8, metavar="PIXELS", help="Side to which image files are scaled.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same images.")] = 0,
    inventory: Inventory = None,  # noqa: ARG001 - every verb takes it
    json: Json = False,
) -> None:
    """Write a data set as its images look under a condition; --data reads what is written."""
    from deploy.folder import refuse_used

    refuse_used(output, "data set")
    err.print("[dim]Load torch[/]", markup=True)
    from pipeline.data import load_data
    from pipeline.data.conditions import parse_condition, under
    from pipeline.data.writing import write_data

    wanted = parse_condition(condition)
    with view() as listen:
        found = load_data(data, seed=seed, image_size=image_size, listen=listen)
        spec = write_data(under(found, wanted, seed=seed), output, listen=listen)
    side = None if found.fitting is None and spec.startswith("cifar10") else found.shape[1]
    if json:
        print_json({"data": spec, "condition": str(wanted), "seed": seed, "image_size": side})
        return
    out.print(f"wrote {len(found.train) + len(found.search) + len(found.val):,} images to train on and "
              f"{len(found.test):,} to test on, {wanted}, to {output}", markup=False)  # fmt: skip
    out.print(f"next    pipeline run --data {spec}" + ("" if side is None else f"  # image_size: {side} in run.yaml"),
              markup=False)  # fmt: skip
