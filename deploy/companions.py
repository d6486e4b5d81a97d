"""What lies beside a model file so that it can be run by itself: labels, an example, what that needs."""

from __future__ import annotations

from collections.abc import Iterable

from deploy.facts import BundleTask
from deploy.templates import example_with
from pipeline.records import ModelFormat

_OF_THE_EXAMPLE = ("numpy", "pillow")


def companions(format: ModelFormat, classes: Iterable[str], task: BundleTask | None = None) -> dict[str, str]:
    """Return the texts by their files' names.

    Args:
        format: of the model file.
        classes: in the order of the network's outputs.
        task: that puts nothing into classes; its example takes arrays.
    """
    if task is not None:
        return {
            "example.py": example_with(format.opening, "example_arrays.py"),
            "requirements.txt": "".join(f"{name}\n" for name in sorted({"numpy", *format.packages})),
        }
    return {
        "labels.txt": "".join(f"{' '.join(name.split())}\n" for name in classes),
        "example.py": example_with(format.opening),
        "requirements.txt": "".join(f"{name}\n" for name in sorted({*_OF_THE_EXAMPLE, *format.packages})),
    }
