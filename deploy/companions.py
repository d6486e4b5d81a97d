"""What lies beside a model file so that it can be run by itself: labels, an example, what that needs."""

from __future__ import annotations

from collections.abc import Iterable

from deploy.formats import FORMATS
from deploy.templates import template


def companions(model: str, classes: Iterable[str]) -> dict[str, str]:
    """Return the texts by their files' names.

    Args:
        model: name of the model file.
        classes: in the order of the network's outputs.
    """
    return {
        "labels.txt": "".join(f"{' '.join(name.split())}\n" for name in classes),
        "example.py": template("example.py"),
        "requirements.txt": "".join(f"{name}\n" for name in FORMATS[model].packages),
    }
