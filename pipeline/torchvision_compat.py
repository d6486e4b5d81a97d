"""torchvision made importable also where its compiled operators do not load; the one place that imports it.

Package indexes serve a torchvision wheel whose compiled part wants CUDA libraries. Beside a CPU-only torch that part
cannot be loaded, and ``import torchvision`` ends in ``RuntimeError: operator torchvision::nms does not exist``: its
Python part describes ``nms`` and ``qnms`` to torch, which does not know them. Declaring their schemas beforehand is
enough for the models and data sets to work; calling ``torchvision.ops.nms`` itself still raises.

Where the compiled operators load, nothing is declared. Write ``from pipeline.torchvision_compat import torchvision``:
this module declares when it is imported, and imports torchvision, which takes a second, when that is asked for.
Code of the user's own is imported by ``importing`` alone, which imports this module first.
"""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path
from typing import Any

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def _declare_missing_operators() -> torch.library.Library | None:
    """Declare the schemas that torchvision describes; the declarations live as long as the returned library."""
    if torch.version.cuda is not None:
        return None
    _load_compiled_operators()
    missing = [schema for schema in SCHEMAS if not hasattr(torch.ops.torchvision, schema.partition("(")[0])]
    if not missing:
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in missing:
        library.define(schema)  # type: ignore[no-untyped-call]
    return library


def _load_compiled_operators() -> None:
    """Load torchvision's own extension where it can be; it is found without importing torchvision."""
    spec = importlib.util.find_spec("torchvision")
    for folder in (spec.submodule_search_locations if spec else None) or []:
        for file in Path(folder).glob("_C*.so"):
            with contextlib.suppress(OSError):
                torch.ops.load_library(file)  # type: ignore[no-untyped-call]


def __getattr__(name: str) -> Any:
    """Import torchvision when it is first asked for."""
    if name == "torchvision":
        import torchvision

        return torchvision
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


DECLARED = _declare_missing_operators()
"""Keeps the declarations alive; None: torchvision's own operators load."""
