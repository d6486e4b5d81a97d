"""A bundle of one network in one format and precision; the same run gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploy.companions import companions
from deploy.engine_recipe import EngineRecipe, build_files
from deploy.facts import BundleFacts
from deploy.folder import new_folder
from deploy.manifest import describe_input
from deploy.sealing import seal
from deploy.vectors import write_vectors
from pipeline import serialization
from pipeline.records import Artifact, Measurement, ModelFormat

SCHEMA_VERSION = 1


def write_format_bundle(
    *,
    name: str,
    data: bytes,
    format: ModelFormat,
    precision: str,
    artifact: Artifact,
    facts: BundleFacts,
    measured: Measurement | None,
    test_accuracy: float | None,
    verified: Mapping[str, Any],
    quantization: Mapping[str, Any] | None,
    doubts: Sequence[str],
    engine: EngineRecipe | None,
    sample: Path | None,
    output: Path,
) -> None:
    """Write a bundle to ``output``, whole or not at all.

    Args:
        name: of the format and precision, as its folder is called.
        data: the model file.
        measured: the file's figures on the run's device; None: it was not measured there.
        test_accuracy: share of right answers on the test split; None: it was not read of this file.
        verified: how its answers compare with those of the other files.
        quantization: how an INT8 file was made.
        doubts: what speaks against its use.
        engine: how TensorRT builds an engine of it; None: another runtime loads the file itself.
        sample: a real input, which the test vectors begin with.
        output: a folder that is new or empty.

    Raises:
        OutputError: the folder is not empty or cannot be written.
    """
    with new_folder(output, "bundle") as folder:
        (folder / format.file).write_bytes(data)
        texts = companions(format, facts.classes)
        built = {} if engine is None else build_files(engine, format.file)
        texts |= {**built, "README.md": _readme(name, format, facts, measured, doubts, engine)}
        for file, text in texts.items():
            (folder / file).write_text(text, encoding="utf-8")
        manifest: dict[str, Any] = {
            "schema": SCHEMA_VERSION,
            "name": f"{facts.run_id}-{artifact.id}-{name}",
            "model": {"file": format.file, "format": format.name, "precision": precision},
            "classes": list(facts.classes),
            "input": describe_input(facts.input),
            "device": {"name": facts.device_name, **serialization.dump(facts.device)},
            "figures": _figures(facts, measured),
            "accuracy": {"test": test_accuracy},
            "verified": verified,
            "quantization": quantization,
            "engine": None if engine is None else engine.as_json(format.file),
            "doubts": list(doubts),
            "run": {"id": facts.run_id, "trial": artifact.trial, "artifact": artifact.id, "round": artifact.round},
            "seeds": {"run": facts.seed},
            "versions": dict(facts.versions),
        }
        manifest["test_vectors"] = write_vectors(folder, manifest["input"], {format.file: precision}, sample)
        seal(folder, manifest)


def engine_format(onnx: ModelFormat) -> ModelFormat:
    """Return what a bundle for TensorRT says of its model file, an ONNX file."""
    return replace(onnx, name="tensorrt")


def _figures(facts: BundleFacts, measured: Measurement | None) -> dict[str, Any]:
    if measured is None:
        why = f"the run measured another format or precision on {facts.device_name}; `pipeline profile` measures this"
        return {"measured_on_device": False, "why": why, "measurement": None}
    return {"measured_on_device": True, "measurement": serialization.dump(measured)}


def _readme(
    name: str,
    format: ModelFormat,
    facts: BundleFacts,
    measured: Measurement | None,
    doubts: Sequence[str],
    engine: EngineRecipe | None,
) -> str:
    lines = [
        f"# {facts.run_id}, {name}", "",
        f"`{format.file}` takes images or signals as `manifest.json` says under `input`; `example.py` runs it:", "",
        "    python -m venv env", "    env/bin/pip install -r requirements.txt", "    env/bin/python example.py", "",
    ]  # fmt: skip
    if engine is not None:
        lines += [
            "TensorRT builds an engine of it on the board that runs it; `example.py` answers with ONNX Runtime:", "",
            "    sh build.sh", "", "`build.json` says the same for other tools: flags, workspace, commands.", "",
        ]  # fmt: skip
    if measured is None:
        lines += [f"It was **not measured** on {facts.device_name}: its figures are not those of the run.", ""]
    lines += [f"**Take care**: {doubt}." for doubt in doubts]
    return "\n".join(lines).rstrip("\n") + "\n"
