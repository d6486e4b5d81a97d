"""Formats of an artifact: its network as ONNX, as TFLite and for TensorRT, each in several precisions.

What the run measured on its device is taken as it is stored; the rest is written anew from the stored weights. All of
them answer the same images of the validation split here, and are compared with each other.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import fx

from pipeline.config import RunConfig
from pipeline.devices.compatibility import OLDEST_SUPPORT
from pipeline.errors import ConfigError, ExportError, ModelError, nearest
from pipeline.events import Listener, Note, Stage, unheard
from pipeline.export.format import FLOAT32, FP16, INT8, Format, float_parent, open_format
from pipeline.export.format_plugin import model_format
from pipeline.export.fp16_format import asking_for_fp16, not_asking
from pipeline.export.half_files import onnx_in_half, tflite_in_half
from pipeline.export.quantization.host_scores import open_on_host
from pipeline.export.quantization.int8_settings import Int8Settings
from pipeline.export.quantization.litert_quantizer import STATIC
from pipeline.export.quantization.open_int8 import open_int8
from pipeline.export.quantization.qdq import S8S8_SYMMETRIC, SCHEMES, U8S8, Scheme
from pipeline.export.quantization.quantize import CALIBRATION_IMAGES
from pipeline.export.signature import packed
from pipeline.models.safetensors_io import WEIGHTS
from pipeline.quantization.gpu_precisions import lacks
from pipeline.quantization.judgement import LEAST_AGREEMENT
from pipeline.quantization.schemes import TENSORRT
from pipeline.recipes.apply import apply_recipe
from pipeline.recipes.recipe import RECIPE, parse
from pipeline.records import Artifact, Device, Measurement, PrecisionDecision
from pipeline.report.table import precision_in_words
from pipeline.run.engine_timings import timings_on_board
from pipeline.run.inputs import Inputs, load_inputs
from pipeline.run.splitting import stored_splits
from pipeline.run.stored_settings import stored_settings
from pipeline.store import Store
from pipeline.store.facts import BASE, BASE_WEIGHTS, FORMAT, PRECISION
from pipeline.store.task import puts_into_classes

FORMATS = ("onnx", "tflite", TENSORRT)
PRECISIONS = (FLOAT32, INT8, FP16)
IMAGES = 500
"""By which files are compared."""
LEAST_SAME_CLASS = {FLOAT32: 0.998, FP16: 0.99, INT8: LEAST_AGREEMENT}
"""Of these images, a file puts so many into the class that the float32 file puts them into."""


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """A format in a precision."""

    format: str
    precision: str

    def __str__(self) -> str:
        """Return what its folder is called."""
        return f"{self.format}-{self.precision}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The answers of two files to the same images."""

    same_class: float
    """Share of the images."""
    largest_difference: float
    """Of two scores of one class."""
    of_largest_score: float
    """The same as a share of the largest score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFormat:
    """One file, and what is known of it."""

    kind: Kind
    data: bytes
    measured: Measurement | None
    """On the run's device; None: it was not measured there."""
    test_accuracy: float | None = None
    """Share of right answers on the test split, which a run reads once; None: not of this file."""
    answered_by: str
    """What gave this file's answers on this machine."""
    images: int
    against: Mapping[str, Comparison]
    """With each other file, by its name."""
    reference: Comparison | None = None
    """With the float32 file; None: this is it."""
    scheme: Scheme | None = None
    """How an INT8 file is rounded."""
    float_layers: tuple[str, ...] = ()
    """Layers of an INT8 file that stay float32."""
    calibration: Mapping[str, object] | None = None
    """Of an INT8 file: the images that its ranges are of."""
    doubts: tuple[str, ...] = ()
    """What speaks against its use, in sentences."""
    timings: str | None = None
    """Where the run's board has the times of engines' layers; None: it builds no engines."""

    @property
    def sha256(self) -> str:
        """Of the file."""
        return hashlib.sha256(self.data).hexdigest()


def kinds_of(store: Store, artifact: Artifact, formats: Sequence[str], precisions: Sequence[str]) -> list[Kind]:
    """Return every format in every precision; where one of both is left out, it is the run's own.

    Raises:
        ConfigError: there is no such format or precision, or this network cannot be had in it; names what can be.
    """
    if not puts_into_classes(store):
        raise ConfigError(
            "--format and --precision: files are compared by the classes of their answers, and this run's task puts "
            "nothing into classes; pipeline pull without them writes what the run measured"
        )
    own = _own_kind(store, artifact)
    if not formats and own.format not in FORMATS:
        raise ConfigError(
            f"run {store.id} wrote files of its own format {own.format}; say --format {','.join(FORMATS)}"
        )
    for known, found, option in ((FORMATS, formats, "--format"), (PRECISIONS, precisions, "--precision")):
        for name in found:
            if name not in known:
                raise ConfigError(f"{option}: there is no {name!r}{nearest(name, known)}; known: {', '.join(known)}")
    asked = list(itertools.product(formats or (own.format,), precisions or (own.precision,)))
    if artifact.plan.zeros and INT8 in {precision for _, precision in asked}:
        raise ConfigError(
            "--precision int8: single weights of this network are zero, which no INT8 file shows; to be had: "
            f"{', '.join(str(Kind(name, one)) for name in FORMATS for one in (FLOAT32, FP16))}"
        )
    return [Kind(*one) for one in dict.fromkeys(asked)]


def written_formats(
    store: Store, artifact: Artifact, kinds: Iterable[Kind], *, inventory: Path | None, listen: Listener = unheard
) -> list[WrittenFormat]:
    """Return the files of an artifact, each compared with all others and with float32.

    Raises:
        UserError: the run's data, code or weights are not what they were.
        ExportError: the network cannot be written so, or a file answers otherwise than the float32 one.
        ConverterError: the TFLite converter cannot be had.
    """
    settings, device = stored_settings(store, inventory)
    config = settings.model_copy(update={"conditions": (artifact.condition,) if artifact.condition else ()})
    listen(Stage(f"Load {config.data}"))
    files = _Files(store=store, artifact=artifact, config=config, device=device, listen=listen)
    found = {kind: files.written(kind) for kind in kinds}
    reference = Kind("tflite" if all(kind.format == "tflite" for kind in found) else "onnx", FLOAT32)
    images = packed(next(files.inputs.data.val.batches(IMAGES))[0])
    listen(Stage(f"Compare the files' answers to {len(images)} images"))
    scores = {kind: files.scores(kind, images) for kind in {**found, reference: None}}
    timings = timings_on_board(store.required(BASE).measurement.conditions, device.agent_dir)
    compared = [_compared_with_all(one, scores, reference, store) for one in found.values()]
    return [replace(one, timings=timings if one.kind.format == TENSORRT else None) for one in compared]


# ---------------------------------------------------------------- writing


@dataclass(frozen=True, kw_only=True)
class _Files:
    """The files of one artifact, each made once."""

    store: Store
    artifact: Artifact
    config: RunConfig
    device: Device
    listen: Listener
    _parents: dict[str, tuple[Format, bytes]] = field(default_factory=dict)
    _written: dict[Kind, WrittenFormat] = field(default_factory=dict)

    @cached_property
    def inputs(self) -> Inputs:
        """The run's data, and the architecture that it began with."""
        return load_inputs(self.config, weights_known=True, splits=stored_splits(self.store), listen=self.listen)

    @cached_property
    def network(self) -> fx.GraphModule:
        """The artifact's, with its weights."""
        inputs, artifact, store = self.inputs, self.artifact, self.store
        if RECIPE not in artifact.files:
            raise ModelError(
                f"run {store.id} is of a version that wrote no recipe, so artifact {artifact.id} is there in its own "
                "format alone; run it anew"
            )
        recipe = parse(store.blob(artifact.files[RECIPE]).read_text("utf-8"), shown=f"the recipe of {artifact.id}")
        inputs.model.load_state_dict(load_file(store.blob(store.required(BASE_WEIGHTS))))
        pruned = apply_recipe(inputs.model, recipe).network
        pruned.load_state_dict(load_file(store.blob(artifact.files[WEIGHTS])))
        return pruned.eval()

    def written(self, kind: Kind) -> WrittenFormat:
        """Return a file as it was stored, or written anew."""
        if kind not in self._written:
            stored = self._stored(kind)
            if stored is None:
                self.listen(Stage(f"Write {kind.format} in {precision_in_words(kind.precision)}"))
                self._written[kind] = self._anew(kind)
            else:
                self._written[kind] = stored
        return self._written[kind]

    def scores(self, kind: Kind, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a file's answers on this machine, which has no TensorRT: half precision stands in for its FP16."""
        data = self.written(kind).data
        is_engine_in_half = kind == Kind(TENSORRT, FP16)
        return open_on_host(onnx_in_half(data) if is_engine_in_half else data)(images)

    def _stored(self, kind: Kind) -> WrittenFormat | None:
        """Return the file that the run wrote and measured; None: it wrote no such one."""
        artifact, own = self.artifact, _own_kind(self.store, self.artifact)
        parent = artifact.float_parent
        if kind.format != own.format:
            return None
        written = model_format(_file_format(kind))
        if kind == own:
            name, measured, accuracy = written.file, artifact.after.measurement, artifact.after.test_accuracy
        elif kind.precision == FLOAT32 and parent is not None:
            name = float_parent(written.ending) if own.precision == INT8 else written.file
            measured, accuracy = parent.measurement, parent.test_accuracy
        else:
            return None
        data = self.store.blob(artifact.files[name]).read_bytes()
        decision = self.store.get(PRECISION)
        return WrittenFormat(
            kind=kind, data=not_asking(data) if kind.precision == FLOAT32 else data, measured=measured,
            test_accuracy=accuracy,
            answered_by=_answered_by(kind), images=0, against={},
            scheme=_own_scheme(kind, decision),
            float_layers=artifact.float_layers if kind.precision == INT8 else (),
            calibration=self._calibration if kind.precision == INT8 else None,
        )  # fmt: skip

    def _anew(self, kind: Kind) -> WrittenFormat:
        parent, whole = self._parent(_file_format(kind))
        data = whole
        float_layers: tuple[str, ...] = ()
        scheme: Scheme | None = None
        if kind.precision == INT8:
            made = open_int8(parent, self._calibration_images, self._int8_settings(kind)).quantized(self.network)
            data, float_layers, scheme = made.data, made.float_layers, made.scheme
        elif kind.precision == FP16:
            data = {"onnx": onnx_in_half, "tflite": tflite_in_half, TENSORRT: asking_for_fp16}[kind.format](whole)
        return WrittenFormat(
            kind=kind, data=data, measured=None, answered_by=_answered_by(kind), images=0, against={},
            scheme=scheme, float_layers=float_layers, calibration=self._calibration if kind.precision == INT8 else None,
        )  # fmt: skip

    def _int8_settings(self, kind: Kind) -> Int8Settings:
        """Return how a file that the run did not write is rounded: as it has decided for its own INT8 files.

        Where it has not, nobody knows which processors will run it, and weights of seven bits compute right on all.
        """
        decision, scheme = self.store.get(PRECISION), S8S8_SYMMETRIC if kind.format == TENSORRT else U8S8
        if decision is None or decision.precision != INT8:
            return Int8Settings(scheme=replace(scheme, weight_bits=7))
        return Int8Settings(
            float_layers=frozenset(self.artifact.float_layers), scheme=replace(scheme, weight_bits=decision.weight_bits)
        )

    def _parent(self, format: str) -> tuple[Format, bytes]:
        """Return what writes float32 files of a format, and the network's."""
        if format not in self._parents:
            network, example = self.network, self.inputs.example
            opened = open_format(
                format, network, example, support=OLDEST_SUPPORT, on_note=lambda note: self.listen(Note(note))
            )
            self._parents[format] = opened, opened.file(network)
        return self._parents[format]

    @cached_property
    def _calibration_images(self) -> NDArray[np.float32]:
        """The images that the run itself takes for every INT8 file."""
        inputs, _ = next(self.inputs.data.train.batches(CALIBRATION_IMAGES, limit=CALIBRATION_IMAGES))
        return packed(inputs)

    @cached_property
    def _calibration(self) -> dict[str, object]:
        images = self._calibration_images
        digest = hashlib.sha256(images.tobytes()).hexdigest()
        return {"data": self.inputs.data.name, "split": "train", "images": len(images), "sha256": digest}


def _own_kind(store: Store, artifact: Artifact) -> Kind:
    """Return the format and precision that the run wrote and measured."""
    on_gpu = artifact.after.measurement.runtime.startswith(f"{TENSORRT} ")
    return Kind(TENSORRT if on_gpu else store.get(FORMAT) or "onnx", artifact.precision)


def _own_scheme(kind: Kind, decision: PrecisionDecision | None) -> Scheme | None:
    """Return how the INT8 file that the run wrote is rounded."""
    if decision is None or kind.precision != INT8:
        return None
    is_tflite = kind.format == "tflite"
    return STATIC if is_tflite else replace(SCHEMES[decision.scheme], weight_bits=decision.weight_bits)


def _file_format(kind: Kind) -> str:
    """Return the format of the file itself: TensorRT builds its engines of ONNX."""
    return "onnx" if kind.format == TENSORRT else kind.format


def _answered_by(kind: Kind) -> str:
    if kind == Kind(TENSORRT, FP16):
        return "ONNX Runtime, the network in half precision in place of an engine"
    if kind.format == TENSORRT:
        return "ONNX Runtime, the same file in place of an engine"
    return model_format(kind.format).runtime


# ---------------------------------------------------------------- comparing


def _compared_with_all(
    one: WrittenFormat, scores: Mapping[Kind, NDArray[np.float32]], reference: Kind, store: Store
) -> WrittenFormat:
    kind = one.kind
    return replace(
        one, images=len(scores[kind]), against=_against(kind, scores),
        reference=None if kind == reference else _compared(scores[kind], scores[reference]),
        doubts=_doubts(one, scores, reference, store),
    )  # fmt: skip


def _against(kind: Kind, scores: Mapping[Kind, NDArray[np.float32]]) -> dict[str, Comparison]:
    return {str(other): _compared(scores[kind], found) for other, found in sorted(scores.items()) if other != kind}


def _compared(one: NDArray[np.float32], other: NDArray[np.float32]) -> Comparison:
    largest = float(np.abs(one - other).max())
    return Comparison(
        same_class=float((one.argmax(1) == other.argmax(1)).mean()),
        largest_difference=largest,
        of_largest_score=largest / max(float(np.abs(other).max()), 1e-12),
    )


def _doubts(
    written: WrittenFormat, scores: Mapping[Kind, NDArray[np.float32]], reference: Kind, store: Store
) -> tuple[str, ...]:
    """Return what speaks against a file's use.

    Raises:
        ExportError: it answers otherwise than the float32 file, and is no INT8 file, of which some differ.
    """
    kind, doubts = written.kind, []
    found, least = _compared(scores[kind], scores[reference]), LEAST_SAME_CLASS[kind.precision]
    if not found.same_class >= least:  # NaN is no agreement
        said = f"{kind} puts {found.same_class:.1%} of the images into the class that {reference} puts them into"
        if kind.precision != INT8:
            raise ExportError(f"{said}, expected are at least {least:.1%}: its runtime computes something else")
        doubts.append(f"{said}; below {least:.0%} look at which classes suffer before you deploy it")
    if kind.format == TENSORRT and kind.precision != FLOAT32:
        gpu = str(store.required(BASE).measurement.conditions.get("gpu", ""))
        if why := lacks(gpu, kind.precision):
            doubts.append(f"{why}: this is for another GPU than the run's")
    return tuple(doubts)
