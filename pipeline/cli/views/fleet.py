"""Terminal view of several boards at once: progress while they are worked on, then one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from rich.table import Table
from rich.text import Text

from pipeline.cli.console import err, out
from pipeline.devices.side_by_side import Outcome, side_by_side
from pipeline.records import Device

if TYPE_CHECKING:
    from pipeline.devices.diagnostics.check import Finding

T = TypeVar("T")


def work_on(devices: Sequence[Device], doing: str, work: Callable[[Device], T]) -> list[Outcome[T]]:
    """Return each board's outcome, while the terminal shows how many are through."""
    with _progress(doing, len(devices)) as through:
        return side_by_side(devices, work, on_done=through)


@contextmanager
def _progress(doing: str, boards: int) -> Iterator[Callable[[Outcome[T]], None]]:
    done: list[str] = []
    with err.status(f"{doing} {boards} boards …") as status:

        def through(outcome: Outcome[T]) -> None:
            done.append(outcome.device + ("" if outcome.error is None else " ✗"))
            status.update(Text(f"{doing} {boards} boards … {len(done)} through: {', '.join(done[-6:])}"))

        yield through


def print_findings(found: Sequence[Outcome[list[Finding]]]) -> None:
    """Print a row for each board, then what is wrong with which, with the fix."""
    table = Table("device", "checked", "", box=None, header_style="bold", pad_edge=False)
    for outcome in found:
        table.add_row(Text(outcome.device), *_summed_up(outcome))
    out.print(table)
    for outcome in found:
        for finding in outcome.value or []:
            if finding.level in ("bad", "warn") and finding.fix:
                sign = "[bold red]✗[/]" if finding.level == "bad" else "[yellow]![/]"
                out.print(f"{sign} ", end="", markup=True)
                out.print(f"{outcome.device}, {finding.name}: {finding.detail}", markup=False)
                out.print("  [bold]→[/] ", end="", markup=True)
                out.print(finding.fix, markup=False)


def is_fit(outcome: Outcome[list[Finding]]) -> bool:
    """Return whether nothing is wrong with a board."""
    return outcome.value is not None and not any(finding.ok is False for finding in outcome.value)


def _summed_up(outcome: Outcome[list[Finding]]) -> tuple[Text, Text]:
    if outcome.value is None:
        return Text("✗ not reached", style="red"), Text(str(outcome.error))
    looked_at = [finding for finding in outcome.value if finding.ok is not None]
    bad = [finding.name for finding in looked_at if finding.level == "bad"]
    warned = [finding.name for finding in looked_at if finding.level == "warn"]
    if bad:
        return Text(f"✗ {len(bad)} of {len(looked_at)}", style="red"), Text(", ".join(bad))
    if warned:
        return Text(f"! {len(warned)} of {len(looked_at)}", style="yellow"), Text(", ".join(warned))
    return Text(f"✓ {len(looked_at)}", style="green"), Text("")
