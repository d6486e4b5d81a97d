"""Where everything is printed: results to standard output, progress and errors to standard error."""

from __future__ import annotations

from rich.console import Console

from pipeline import codec

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: object) -> None:
    """Print a record or plain values as JSON."""
    out.print(codec.to_text(value, indent=2), markup=False, soft_wrap=True)
