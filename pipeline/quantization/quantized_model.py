"""`pipeline quantize`: a float ONNX or TFLite file becomes INT8, is judged on images and measured beside its parent."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.data import DataSet
from pipeline.devices.agent_client import Agent
from pipeline.devices.host_processor import host_processor
from pipeline.errors import DataError, DeviceError, ExportError, MeasureError, ModelError, first_line
from pipeline.evaluation.device_bench import WHOLE, longer, one_process_of, require_int8
from pipeline.events import Listener, Note, Stage, unheard
from pipeline.export.quantization.host_scores import open_on_host
from pipeline.export.quantization.qdq import OLDEST_OPSET, Scheme
from pipeline.export.quantization.ranges import Range
from pipeline.export.signature import packed
from pipeline.measurement.combining import combined
from pipeline.measurement.retries import measure_with_retries
from pipeline.measurement.validity import why_invalid
from pipeline.quantization.float_runs import with_float_runs
from pipeline.quantization.judgement import Judgement, Parent
from pipeline.quantization.quantizable import Quantizable, QuantizableOnnx, QuantizableTFLite, Quantized
from pipeline.quantization.schemes import schemes_of
from pipeline.records import Measurement

SEARCH_IMAGES = 1000
"""By which it is decided whether layers have to stay float."""
VERIFY_IMAGES = 500
LEAST_SAME_CLASS = 0.99
"""Of the verified images, the device puts so many into the class that this machine puts them into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The device's answers to real images beside this machine's, with the same INT8 file."""

    images: int
    same_class: float


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedModel:
    """What came of it."""

    file: Quantized
    format: str
    """Of both files: onnx or tflite."""
    parent: bytes
    """The float file that it was made of; of ONNX, batch norm folded."""
    judged: Judgement
    """On the test split."""
    float32: Measurement
    int8: Measurement
    """Beside the float file: ``ratio`` is of the two."""
    verified: Verification | None
    """None: a recording was played back, or no board was asked."""
    calibration_images: int
    calibration_sha256: str
    data: DataSet
    shape: tuple[int, ...]

    @property
    def is_faster(self) -> bool:
        """Whether INT8 is faster by its whole interval."""
        ratio = self.int8.ratio
        return ratio is not None and ratio.high < 1


def quantize_model(
    model: bytes,
    data: DataSet,
    agent: Agent,
    *,
    shown: str,
    images: int,
    keep_ends_float: bool = False,
    listen: Listener = unheard,
) -> QuantizedModel:
    """Quantize a float classifier for a device, and find out what that is worth there.

    Args:
        model: the file, of the device's format; an ONNX file's batch is one image, or open.
        data: calibrates (its training images), judges (its test images); normalised as the network expects.
        shown: how the file is called in messages.
        images: for calibration.
        keep_ends_float: the first and the last layer stay float32.
        listen: hears every stage.

    Raises:
        ModelError: the file cannot be quantized.
        DataError: the data do not fit it.
        ExportError: a runtime does not compute the file as it was meant.
        DeviceError: the device cannot be used, or gives nothing but invalid figures.
    """
    _require_usable_runtime(agent, shown)
    listen(Stage(f"Prepare {shown}"))
    source = _quantizable(model, agent, shown)
    shape = _fitting_shape(source, data, shown)
    example = _calibration_images(data, images)
    listen(Stage(f"Calibrate with {len(example)} training images"))
    ranges = _ranges(source, example, shown)
    listen(Stage(f"Read the answers to {min(SEARCH_IMAGES, len(data.search))} images"))
    searched = Parent(source.parent, data.search, SEARCH_IMAGES)
    ends = {source.layers[0], source.layers[-1]} if keep_ends_float and source.layers else set()

    def made(scheme: Scheme) -> tuple[Quantized, Judgement]:
        def make(layers: Sequence[str]) -> Quantized:
            return source.quantized(ranges, {*ends, *layers}, scheme)

        first = make(())
        judged = searched.judge(first.data)
        if judged.is_good:
            return first, judged
        listen(Note(_doubtful(judged)))
        return with_float_runs(first, judged, source.layers, make, searched.judge)

    agent.hold()
    schemes = schemes_of([agent.processor], host_processor(), source.format)
    file, figures = _fastest([made(scheme)[0] for scheme in schemes], source, agent, listen)
    listen(Stage("Measure the float file beside itself"))
    base = _measured(source.parent, source, agent)
    verified = _verified(file.data, source.format, data, agent, listen)
    listen(Stage(f"Read the test split, {len(data.test)} images, once"))
    judged = Parent(source.parent, data.test).judge(file.data)
    return QuantizedModel(
        file=file, format=source.format, parent=source.parent, judged=judged, float32=base, int8=figures,
        verified=verified,
        calibration_images=len(example), calibration_sha256=hashlib.sha256(example.tobytes()).hexdigest(), data=data,
        shape=shape,
    )  # fmt: skip


def _require_usable_runtime(agent: Agent, shown: str) -> None:
    device = agent.device
    if device.format not in ("onnx", "tflite") or device.runtime == "tensorrt":
        raise ModelError(
            f"{shown} becomes an INT8 file for ONNX Runtime or TFLite, and {device.name} runs {device.runtime}; name a "
            "device with runtime: onnxruntime or tflite in the inventory, or give that board a second entry there; "
            "INT8 for TensorRT comes of pipeline run --precision int8, or of pipeline pull --format"
        )
    if device.format == "onnx" and agent.onnx_support.opset < OLDEST_OPSET:
        raise ModelError(
            f"{device.name} loads ONNX up to opset {agent.onnx_support.opset}; INT8 by channel needs {OLDEST_OPSET}: "
            "bring a newer onnxruntime to the board"
        )


def _quantizable(model: bytes, agent: Agent, shown: str) -> Quantizable:
    if agent.device.format == "tflite":
        return QuantizableTFLite(model, shown)
    return QuantizableOnnx(model, agent.onnx_support, agent.int8_operators, shown)


def _fitting_shape(source: Quantizable, data: DataSet, shown: str) -> tuple[int, ...]:
    """Return the shape of one image; raise where the data's is another, or the file gives other than one row of scores.

    Raises:
        DataError: the data do not fit the file.
        ModelError: it is no classifier, or takes channels last.
    """
    wanted = source.shape
    if len(wanted) == 3 and wanted[0] != data.shape[0] == wanted[2]:
        raise ModelError(
            f"{shown} takes images of shape {wanted}, channels last; files that take them first, as {data.shape}, can "
            "be quantized here: convert the network with litert-torch, or give its ONNX file"
        )
    if len(wanted) != len(data.shape) or any(w not in (0, d) for w, d in zip(wanted, data.shape, strict=True)):
        raise DataError(f"{shown} takes images of shape {wanted}, {data.name} gives {data.shape}; give matching data")
    example = packed(next(data.train.batches(2))[0])
    try:
        found = open_on_host(source.parent)(example).shape
    except Exception as error:  # the runtimes' errors share no base
        raise ModelError(f"{shown} does not answer images of {data.name}: {first_line(error)}") from error
    if found != (len(example), len(data.classes)):
        raise DataError(
            f"{shown} answers {len(example)} images with a tensor of shape {found}; {data.name} has "
            f"{len(data.classes)} classes: give the data that it was trained on"
        )
    return data.shape


def _calibration_images(data: DataSet, images: int) -> NDArray[np.float32]:
    return packed(next(data.train.batches(images, limit=images))[0])


def _ranges(source: Quantizable, example: NDArray[np.float32], shown: str) -> dict[str, Range]:
    try:
        return source.ranges(example)
    except ExportError as error:
        raise ModelError(f"{shown}: {error}") from error


def _doubtful(judged: Judgement) -> str:
    return (
        f"INT8 throughout answers {judged.int8:.1%} right instead of {judged.float32:.1%}, and {judged.agreement:.1%} "
        "alike: runs of layers are tried in float32"
    )


def _fastest(
    files: Sequence[Quantized], source: Quantizable, agent: Agent, listen: Listener
) -> tuple[Quantized, Measurement]:
    """Return the file whose latency over its parent's is least on the device, and its figures.

    Raises:
        MeasureError: the device computes none of them in INT8 as it was planned.
    """
    found: list[tuple[Quantized, Measurement]] = []
    for number, file in enumerate(files, 1):
        listen(Stage(f"Measure INT8 ({file.scheme.name}) beside float32 on {agent.device.name}"))
        figures = _measured(file.data, source, agent)
        try:
            require_int8(figures, file.planned, agent.device.name)
        except MeasureError as error:
            if number == len(files) and not found:
                raise
            listen(Note(f"{file.scheme.name} is left out: {error}"))
        else:
            found.append((file, figures))
    return min(found, key=lambda one: one[1].ratio.value if one[1].ratio else float("inf"))


def _measured(model: bytes, source: Quantizable, agent: Agent) -> Measurement:
    """Return a file's figures beside its parent's, in several processes."""
    each = one_process_of(longer(agent.settings_for(agent.device.measure), WHOLE))
    parts = []
    for _ in range(each.processes):
        part = measure_with_retries(
            lambda settle_s: agent.measure(
                model, source.format, reference=(source.parent, source.format),
                settings=replace(each, settle_s=max(each.settle_s, settle_s)),
            ),
            tolerant=agent.shared, ci_rel=each.ci_rel, exact=False,
        )  # fmt: skip
        if why := why_invalid(part):
            raise DeviceError(f"{agent.device.name}: the measurement stays invalid ({', '.join(why)}); try again later")
        parts.append(part)
    return combined(parts, ci_rel=each.ci_rel)


def _verified(model: bytes, format: str, data: DataSet, agent: Agent, listen: Listener) -> Verification | None:
    images = packed(next(data.val.batches(VERIFY_IMAGES))[0])
    if agent.device.recording is not None:
        return None
    listen(Stage(f"Verify on {agent.device.name} with {len(images)} images"))
    here = open_on_host(model)(images)
    there = agent.verify(model, images, format)[:, : here.shape[1]]  # of several outputs the first, which was judged
    same = float((there.argmax(1) == here.argmax(1)).mean())
    if same < LEAST_SAME_CLASS:
        raise ExportError(
            f"{agent.device.name} puts {same:.1%} of {len(images)} images into the class that this machine finds with "
            "the same file; its runtime computes something else: try another version of it"
        )
    return Verification(images=len(images), same_class=same)
