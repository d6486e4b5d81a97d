"""What lies beside a model file so that it runs by itself: the runtime library, labels, an example, what they need."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.resources import files

from deploy.facts import BundleTask
from deploy.templates import template
from pipeline.records import ModelFormat

RUNTIME = "runtime.py"
_OF_THE_EXAMPLE = ("numpy", "pillow")
_OPENING = re.compile(r"^def open_network.*?(?=\n\n\n)", re.M | re.S)


def companions(format: ModelFormat, classes: Iterable[str], task: BundleTask | None = None) -> dict[str, str]:
    """Return the texts by their files' names.

    Args:
        format: of the model file.
        classes: in the order of the network's outputs.
        task: that puts nothing into classes; its example takes arrays.
    """
    if task is not None:
        return {
            "example.py": template("example_arrays.py"),
            RUNTIME: runtime_with(format.opening),
            "requirements.txt": "".join(f"{name}\n" for name in sorted({"numpy", *format.packages})),
        }
    return {
        "labels.txt": "".join(f"{' '.join(name.split())}\n" for name in classes),
        "example.py": template("example.py"),
        RUNTIME: runtime_with(format.opening),
        "requirements.txt": "".join(f"{name}\n" for name in sorted({*_OF_THE_EXAMPLE, *format.packages})),
    }


def runtime_with(opening: str | None) -> str:
    """Return the runtime library with the source of a format's own ``open_network``; None: as it stands."""
    text = files("deploy").joinpath(RUNTIME).read_text(encoding="utf-8")
    return text if opening is None else _OPENING.sub(lambda _: opening.rstrip("\n"), text)
