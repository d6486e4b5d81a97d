"""What `pipeline apply` leaves behind: a pruned network's files, and a manifest that vouches for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.companions import RUNTIME
from deploy.folder import new_folder
from deploy.sealing import seal
from deploy.vectors import write_vectors
from pipeline.records import ModelFormat

SCHEMA_VERSION = 1


def write_applied(
    files: Mapping[str, bytes], format: ModelFormat, facts: Mapping[str, Any], output: Path
) -> dict[str, Any]:
    """Write ``files`` and their manifest to ``output``, whole or not at all; return the manifest.

    Args:
        files: name → content; the model file is among them.
        format: of the model file.
        facts: what else the manifest says, as JSON values.
        output: a folder that is new or empty.

    Raises:
        OutputError: the folder is not empty or cannot be written.
    """
    with new_folder(output, "pruned network") as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        manifest = {
            "schema": SCHEMA_VERSION,
            "model": {"file": format.file, "format": format.name},
            **facts,
        }
        if RUNTIME in files:
            precisions = {name: "float32" for name in files if name.startswith("float32.")}
            precisions[format.file] = facts.get("quantization", {}).get("precision", "float32")
            manifest["test_vectors"] = write_vectors(folder, facts["input"], precisions, None)
        return seal(folder, manifest)
