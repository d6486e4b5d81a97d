"""What is quantized: a user's file with data, or a run's network with the run's own, in the device's format."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline import regular_file
from pipeline.config import RunConfig, load_config
from pipeline.data import DataSet
from pipeline.devices.compatibility import OLDEST_SUPPORT
from pipeline.devices.inventory.load import load_inventory
from pipeline.errors import ConfigError, ModelError, RunNotFoundError, first_line
from pipeline.events import Listener, Note, Stage, unheard
from pipeline.export.format import float_parent, open_format
from pipeline.export.onnx.exporter import read
from pipeline.export.quantization.preparation import image_shape
from pipeline.export.tflite import flatbuffer
from pipeline.export.tflite.flatbuffer import is_tflite
from pipeline.models import load_model
from pipeline.objective.load import load_task
from pipeline.pruning.trace import trace
from pipeline.records import Device
from pipeline.run.artifact_recipe import picked
from pipeline.run.inputs import load_run_data
from pipeline.run.splitting import stored_splits
from pipeline.run.stored_settings import stored_settings
from pipeline.store import RunsRoot, Store

_EXAMPLES = 8


@dataclass(frozen=True, kw_only=True)
class Source:
    """A float file of the device's format, the data that judge it, and the device that runs it."""

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
    runs: RunsRoot,
    device: str | None,
    listen: Listener = unheard,
) -> Source:
    """Return what a file or a run stands for; an ONNX file is converted where the device runs TFLite.

    Raises:
        ModelError: there is neither such a file nor such a run, or the device does not run files of its format.
        ConverterError: TFLite's converter cannot be had.
        DataError: the data cannot be used.
        ConfigError: a file's data are not said, or the task puts nothing into classes.
    """
    if regular_file.exists(Path(name)) or name.lower().endswith((".onnx", ".tflite")):
        return _of_file(Path(name), data, config, inventory, device, listen)
    return _of_run(name, artifact, data, inventory, runs, device, listen)


def _of_file(
    path: Path, data: str | None, config: Path | None, inventory: Path | None, device: str | None, listen: Listener
) -> Source:
    board = load_inventory(inventory, partial=True).device(device or "local")
    try:
        model = regular_file.read_bytes(path, regular_file.MODEL_BYTES)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; give the path of an ONNX or TFLite file, or a run's id") from error
    if data is None and config is None:
        raise ConfigError(
            f"which images is {path.name} trained on? Give --data (digits, cifar10:DIR, imagefolder:DIR, …): some of "
            "them calibrate, others say what INT8 costs"
        )
    settings = load_config(config, {"data": data})
    _require_classes(settings)
    loaded = load_run_data(_of_size(settings, _image_shape(model, path.name)))
    return Source(
        model=_for_device(model, board, loaded, path.name, listen), shown=path.name, device=board, data=loaded
    )


def _require_classes(settings: RunConfig) -> None:
    """Raise ConfigError where the task puts nothing into classes, by which INT8 is judged."""
    task = load_task(settings.task)
    if not task.puts_into_classes:
        raise ConfigError(
            f"INT8 is judged by how many examples keep their class, and task {task.name} puts none into a class; "
            "quantize a network of the task classification"
        )


def _image_shape(model: bytes, shown: str) -> tuple[int, ...]:
    """Return the shape of the images that a file takes: channels, height, width."""
    if not is_tflite(model):
        return image_shape(read(model, None, name=shown))
    try:
        graph = flatbuffer.read(model).subgraphs[0]
    except ValueError as error:
        raise ModelError(f"{shown} is not a valid TFLite file: {first_line(error)}") from error
    return flatbuffer.shape(graph.tensors[graph.inputs[0]])[1:]


def _for_device(model: bytes, device: Device, data: DataSet, shown: str, listen: Listener) -> bytes:
    """Return the file in the device's format.

    Raises:
        ModelError: a TFLite file for a device that runs another format.
    """
    if is_tflite(model):
        if device.format != "tflite":
            raise ModelError(
                f"{shown} is a TFLite file, and {device.name} runs {device.format} files ({device.runtime}); name a "
                "device with runtime: tflite, or give the network's ONNX file"
            )
        return model
    return _converted(model, data, shown, listen) if device.format == "tflite" else model


def _converted(model: bytes, data: DataSet, shown: str, listen: Listener) -> bytes:
    """Return the TFLite file of an ONNX one, by way of the network that it holds."""
    listen(Stage(f"Convert {shown} to TFLite"))
    example = next(data.train.batches(_EXAMPLES))[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model)
        network = trace(
            load_model(str(path), classes=len(data.classes), channels=data.shape[0], weights=None,
                       example=None if isinstance(example, tuple) else example),
            example, classes=len(data.classes),
        )  # fmt: skip
    opened = open_format("tflite", network, example, support=OLDEST_SUPPORT, on_note=lambda note: listen(Note(note)))
    return opened.file(network)


def _of_size(settings: RunConfig, shape: tuple[int, ...]) -> RunConfig:
    """Return the settings with images of the size that the file takes, unless they say one."""
    if settings.side is not None or len(shape) != 3 or shape[1] != shape[2] or shape[1] < 8:
        return settings
    return settings.model_copy(update={"image_size": shape[1]})


def _of_run(
    name: str,
    artifact: str,
    data: str | None,
    inventory: Path | None,
    runs: RunsRoot,
    device: str | None,
    listen: Listener,
) -> Source:
    try:
        store = Store.open(runs, name)
    except RunNotFoundError as error:
        raise ModelError(f"there is neither a file {name} nor a run of that name: {error}") from error
    with store:
        settings, board = stored_settings(store, inventory)
        _require_classes(settings)
        (one,) = picked(store, artifact)[:1]
        shown = f"run {store.id}, artifact {one.id}"
        file = next((name for name in _float_files() if name in one.files), None)
        if file is None:
            raise ModelError(
                f"run {store.id} wrote {', '.join(sorted(one.files))}; a network in ONNX or TFLite can be quantized: "
                "run again with a device of runtime onnxruntime or tflite"
            )
        changed = settings.model_copy(update={"conditions": (one.condition,) if one.condition else ()})
        if data is not None:
            changed = settings.model_copy(update={"data": data, "conditions": ()})
        loaded = load_run_data(changed, splits=stored_splits(store) if data is None else None)
        alone = board.boards[0] if board.boards else board
        board = alone if device is None else load_inventory(inventory, partial=True).device(device)
        model = store.blob(one.files[file]).read_bytes()
        return Source(model=_for_device(model, board, loaded, shown, listen), shown=shown, data=loaded, device=board)


def _float_files() -> Iterator[str]:
    """Yield what a run's float32 file may be called: an INT8 file's parent, else the model itself."""
    for ending in ("onnx", "tflite"):
        yield float_parent(ending)
        yield f"model.{ending}"
