"""Bundles of an artifact's formats, a folder each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.engine_recipe import EngineRecipe
from deploy.folder import new_folder
from deploy.format_bundle import engine_format, write_format_bundle
from pipeline import serialization
from pipeline.export.format_plugin import model_format
from pipeline.quantization.schemes import TENSORRT
from pipeline.records import Artifact
from pipeline.run.artifact_formats import WrittenFormat
from pipeline.run.artifact_recipe import bundle_facts
from pipeline.run.sample_file import sample_of
from pipeline.store import Store

_WORKSPACE_MB = 256
"""As the agent's TensorRT runtime has it unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledFormat:
    """A bundle that was written."""

    artifact: str
    folder: Path
    written: WrittenFormat


def write_all(store: Store, artifact: Artifact, files: Sequence[WrittenFormat], output: Path) -> list[PulledFormat]:
    """Write the bundle of each file, all or none: to ``output`` where it is one, else to a folder in it for each.

    Raises:
        OutputError: the folder is not empty or cannot be written.
    """
    if len(files) == 1:
        folders = [output]
        _write(store, artifact, files[0], output)
    else:
        folders = [output / str(one.kind) for one in files]
        with new_folder(output, "bundles") as together:
            for one in files:
                _write(store, artifact, one, together / str(one.kind))
    return [PulledFormat(artifact=artifact.id, folder=f, written=w) for f, w in zip(folders, files, strict=True)]


def _write(store: Store, artifact: Artifact, one: WrittenFormat, folder: Path) -> None:
    for_engine = one.kind.format == TENSORRT
    format = engine_format(model_format("onnx")) if for_engine else model_format(one.kind.format)
    write_format_bundle(
        name=str(one.kind), data=one.data, format=format, precision=one.kind.precision, artifact=artifact,
        facts=bundle_facts(store, artifact, format), measured=one.measured,
        test_accuracy=one.test_accuracy, verified=_verified(one),
        quantization=_quantization(one), doubts=one.doubts, engine=_engine(one) if for_engine else None,
        sample=sample_of(store.path), output=folder,
    )  # fmt: skip


def _verified(one: WrittenFormat) -> dict[str, Any]:
    return {
        "split": "validation",
        "images": one.images,
        "answered_by": one.answered_by,
        "against": {name: serialization.dump(found) for name, found in one.against.items()},
    }


def _quantization(one: WrittenFormat) -> dict[str, Any] | None:
    if one.scheme is None:
        return None
    return {
        "scheme": one.scheme.name,
        "weight_bits": one.scheme.weight_bits,
        "calibration": one.calibration,
        "float_layers": list(one.float_layers),
    }


def _engine(one: WrittenFormat) -> EngineRecipe:
    conditions = {} if one.measured is None else one.measured.conditions
    workspace_mb = conditions.get("workspace_mb")
    built_on, gpu = (value if isinstance(value, str) else None for value in map(conditions.get, ("tensorrt", "gpu")))
    return EngineRecipe(
        precision=one.kind.precision, workspace_mb=workspace_mb if type(workspace_mb) is int else _WORKSPACE_MB,
        built_on=built_on, gpu=gpu,
        known_timings=one.timings,
    )  # fmt: skip
