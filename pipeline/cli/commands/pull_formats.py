"""`pipeline pull --format … --precision …`: one network in several formats, and how their answers compare."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from pipeline import api, serialization
from pipeline.cli.console import out, print_json
from pipeline.cli.views.live import view
from pipeline.cli.views.run import table_of
from pipeline.run.format_bundles import PulledFormat
from pipeline.store import RunsRoot

_LEGEND = (
    "same class: share of the {images} images of the validation split that it puts into the class of the float32 file\n"
    "difference: the largest of any score, and its share of the largest score"
)


def pull_formats(
    run: str,
    output: Path,
    artifact: str,
    formats: str,
    precisions: str,
    *,
    condition: str,
    runs: RunsRoot,
    inventory: Path | None,
    json: bool,
) -> None:
    """Write the bundles, and print a row for each; lists are separated by commas."""
    with view() as show:
        found = api.pull_formats(
            run, output, formats=_listed(formats), precisions=_listed(precisions), artifact=artifact,
            condition=condition, runs=runs, inventory=inventory, listen=show,
        )  # fmt: skip
    if json:
        print_json([_as_json(one) for one in found])
        return
    table = table_of("bundle", "model file", "same class", "difference", "measured", "")
    for one in found:
        table.add_row(*_row(one))
    out.print(table)
    out.print(_LEGEND.format(images=found[0].written.images), style="dim")
    for one in found:
        for doubt in one.written.doubts:
            out.print(f"{one.written.kind}: {doubt}", markup=False)
    out.print(Text("✓ ", style="green").append(str(output), style="not bold default"))


def _listed(typed: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in typed.split(",") if word.strip())


def _row(one: PulledFormat) -> tuple[str, ...]:
    written = one.written
    nearest = written.reference
    measured = "not measured" if written.measured is None else f"{written.measured.p50_ms.value:.3g} ms"
    compared = ("", "") if nearest is None else (
        f"{nearest.same_class:.1%}", f"{nearest.largest_difference:.2g} ({nearest.of_largest_score:.1%})"
    )  # fmt: skip
    return (
        f"{one.artifact} {written.kind}", f"{len(written.data) / 1e3:,.0f} kB", *compared, measured,
        "in doubt" if written.doubts else "",
    )  # fmt: skip


def _as_json(one: PulledFormat) -> dict[str, object]:
    written = one.written
    return {
        "artifact": one.artifact,
        "format": written.kind.format,
        "precision": written.kind.precision,
        "folder": str(one.folder.absolute()),
        "sha256": written.sha256,
        "bytes": len(written.data),
        "measured_on_device": written.measured is not None,
        "images": written.images,
        "against": {name: serialization.dump(found) for name, found in written.against.items()},
        "doubts": list(written.doubts),
    }
