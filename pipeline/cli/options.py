"""Options that more than one verb takes, and how every verb ends when something expected goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Inventory = Annotated[
    Path | None,
    typer.Option(
        "--inventory",
        metavar="FILE",
        help="Registered devices; default: inventory.yaml here, else the user's configuration folder.",
    ),
]
Runs = Annotated[
    Path,
    typer.Option(
        "--runs", metavar="DIR", envvar="PIPELINE_RUNS", help="Folder that holds the runs.", show_default=True
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script instead of tables.")]
DEFAULT_RUNS = Path("runs")
