"""What is quantized: a user's file with data, or a run's network with the run's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from pipeline import regular_file
from pipeline.config import RunConfig, load_config
from pipeline.data import DataSet
from pipeline.devices.inventory.load import load_inventory
from pipeline.errors import ConfigError, ModelError, RunNotFoundError
from pipeline.export.onnx.exporter import read
from pipeline.export.quantization.preparation import image_shape
from pipeline.objective.load import load_task
from pipeline.records import Device
from pipeline.run.artifact_builder import float_parent
from pipeline.run.artifact_recipe import picked
from pipeline.run.inputs import load_run_data
from pipeline.run.splitting import stored_splits
from pipeline.run.stored_settings import stored_settings
from pipeline.store import Store

MODEL = "model.onnx"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A float ONNX file, the data that judge it, and the device that runs it."""

    model: bytes
    shown: str
    data: DataSet
    device: Device


def source_of(
    name: str,
    *,
    artifact: str,
    data: str | None,
    config: Path | None,
    inventory: Path | None,
    runs: Path,
    device: str | None,
) -> Source:
    """Return what a file or a run stands for.

    Raises:
        ModelError: there is neither such a file nor such a run, or the run's network is no ONNX file.
        DataError: the data cannot be used.
        ConfigError: a file's data are not said, or the task puts nothing into classes.
    """
    if regular_file.exists(Path(name)) or name.lower().endswith(".onnx"):
        return _of_file(Path(name), data, config, inventory, device)
    return _of_run(name, artifact, data, inventory, runs, device)


def _of_file(path: Path, data: str | None, config: Path | None, inventory: Path | None, device: str | None) -> Source:
    board = load_inventory(inventory, partial=True).device(device or "local")
    try:
        model = regular_file.read_bytes(path, regular_file.MODEL_BYTES)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; give the path of an ONNX file, or a run's id") from error
    if data is None and config is None:
        raise ConfigError(
            f"which images is {path.name} trained on? Give --data (digits, cifar10:DIR, imagefolder:DIR, …): some of "
            "them calibrate, others say what INT8 costs"
        )
    settings = load_config(config, {"data": data})
    _require_classes(settings)
    return Source(
        model=model, shown=path.name, device=board,
        data=load_run_data(_of_size(settings, read(model, None, name=path.name))),
    )  # fmt: skip


def _require_classes(settings: RunConfig) -> None:
    """Raise ConfigError where the task puts nothing into classes, by which INT8 is judged."""
    task = load_task(settings.task)
    if not task.puts_into_classes:
        raise ConfigError(
            f"INT8 is judged by how many examples keep their class, and task {task.name} puts none into a class; "
            "quantize a network of the task classification"
        )


def _of_size(settings: RunConfig, model: onnx.ModelProto) -> RunConfig:
    """Return the settings with images of the size that the file takes, unless they say one."""
    shape = image_shape(model)
    if settings.side is not None or len(shape) != 3 or shape[1] != shape[2] or shape[1] < 8:
        return settings
    return settings.model_copy(update={"image_size": shape[1]})


def _of_run(
    name: str, artifact: str, data: str | None, inventory: Path | None, runs: Path, device: str | None
) -> Source:
    try:
        store = Store.open(runs, name)
    except RunNotFoundError as error:
        raise ModelError(f"there is neither a file {name} nor a run of that name: {error}") from error
    with store:
        settings, board = stored_settings(store, inventory)
        _require_classes(settings)
        (one,) = picked(store, artifact)[:1]
        parent = float_parent("onnx")
        float_file = parent if parent in one.files else MODEL
        if float_file not in one.files:
            raise ModelError(
                f"run {store.id} wrote {', '.join(sorted(one.files))}; a network in ONNX can be quantized: run again "
                "with a device of runtime onnxruntime, or with --precision int8"
            )
        changed = settings if data is None else settings.model_copy(update={"data": data})
        return Source(
            model=store.blob(one.files[float_file]).read_bytes(),
            shown=f"run {store.id}, artifact {one.id}",
            data=load_run_data(changed, splits=stored_splits(store) if data is None else None),
            device=board if device is None else load_inventory(inventory, partial=True).device(device),
        )
