"""Prune a trained CNN by what the user's own board measures: see :mod:`pipeline.api`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.api import (
        Inventory,
        adapt,
        compare,
        deploy,
        deployed,
        environment,
        load_inventory,
        load_pruned,
        open_run,
        plan,
        profile,
        prune,
        pull,
        pull_formats,
        quantize,
        roll_back,
        verify,
    )

__version__ = "0.1.0"
__all__ = [
    "Inventory",
    "adapt",
    "compare",
    "deploy",
    "deployed",
    "environment",
    "load_inventory",
    "load_pruned",
    "open_run",
    "plan",
    "profile",
    "prune",
    "pull",
    "pull_formats",
    "quantize",
    "roll_back",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import the public API when it is first asked for: the command line does without most of it."""
    if name in __all__:
        return getattr(importlib.import_module("pipeline.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return [*__all__, "__version__"]
