"""Ladder of a bundle: several networks of one input and the same classes, and what chooses among them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from deploy.folder import file_sha256
from pipeline import serialization
from pipeline.errors import OutputError

CONTROLLER, SETTINGS = "controller.py", "controller.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantFile:
    """The file of a network beside the one that answers where the bundle is used without its controller."""

    source: Path
    sha256: str
    precision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """What an adaptive bundle holds beyond others."""

    settings: Mapping[str, Any]
    """Of the controller: controller.json."""
    files: Mapping[str, VariantFile]
    """Names in the bundle → networks; a network that several variants share is one file."""
    about: Mapping[str, Any]
    """What the manifest says of how it was tuned and judged."""


def write_ladder(folder: Path, ladder: Ladder) -> None:
    """Write networks, controller and settings into a bundle that is being filled.

    Raises:
        OutputError: a file is not the one that the run stored.
    """
    for name, variant in ladder.files.items():
        shutil.copyfile(variant.source, folder / name)
        if file_sha256(folder / name) != variant.sha256:
            raise OutputError(f"{name} is damaged: {variant.source} is not the file that the run stored")
    controller = files("deploy").joinpath(CONTROLLER).read_text(encoding="utf-8")
    (folder / CONTROLLER).write_text(controller, encoding="utf-8")
    (folder / SETTINGS).write_text(serialization.to_text(dict(ladder.settings), indent=2) + "\n", encoding="utf-8")


def describe_ladder(ladder: Ladder) -> dict[str, Any]:
    """Return what the manifest says."""
    variants = [{"name": one["name"], "file": one["file"]} for one in ladder.settings["variants"]]
    return {"controller": CONTROLLER, "settings": SETTINGS, "variants": variants, **ladder.about}
