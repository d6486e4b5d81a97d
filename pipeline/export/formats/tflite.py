"""TFLite, for tflite-runtime and LiteRT: the base converted once, in seconds; what is cut from it, in milliseconds.

A cut network's file is the base's with other weights and shapes (see ``tflite.rewrite``). Where that is refused, or
the file's answers are not the network's, the converter is asked for the whole network: slow, and right.
"""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, fx

from pipeline.errors import ExportError, ModelError
from pipeline.export.constants import constants, distinct
from pipeline.export.fingerprint import structure
from pipeline.export.format import FLOAT32, INPUT, OUTPUT, FastPathUnsupportedError, OnNote, Skeleton
from pipeline.export.signature import signature_of
from pipeline.export.tflite import flatbuffer
from pipeline.export.tflite.converter import convert
from pipeline.export.tflite.environment import converter_python
from pipeline.export.tflite.interpreter import answers
from pipeline.export.tflite.rewrite import rewrite
from pipeline.export.tflite.skeleton import skeleton
from pipeline.export.tflite.template import Template, study
from pipeline.export.verify_outputs import TOLERANCE, difference, require_equal
from pipeline.records import OnnxSupport
from pipeline.structures import Inputs

__all__ = [
    "ENDING", "PACKAGES", "RUNTIME", "TFLite", "open_format", "require_usable", "skeleton", "template_of",
]  # fmt: skip

ENDING = "tflite"
RUNTIME = "LiteRT"
PACKAGES = ("ai-edge-litert",)

STRUCTURAL = 1e-2
"""Largest allowed difference of the rewritten base with random weights: rounding may grow so far in a deep network that
was never trained (torch's own is 7e-5 there), a wrong constant shows as one. Candidates, trained, are held to 1e-4."""

log = logging.getLogger(__name__)


def open_format(base: fx.GraphModule, example: Inputs, *, support: OnnxSupport, on_note: OnNote) -> TFLite:
    """Convert the base; on a machine that never did, install the converter before.

    Raises:
        ExportError: the converter cannot write the network; names the operator. Or it has several inputs or outputs.
        ConverterError: the converter cannot be installed.
    """
    del support
    if isinstance(example, tuple) or not signature_of(base).is_plain:
        raise ExportError(
            "TFLite files are written of networks that take one tensor and answer with one, and this one has more: let "
            "the device run ONNX, runtime: onnxruntime and format: onnx in inventory.yaml"
        )
    python = converter_python(on_note)
    on_note("converting the base model")
    network = distinct(copy.deepcopy(base))
    return TFLite(python, template_of(convert(python, network, example), network, example), example)


def require_usable(data: bytes, support: OnnxSupport | None, *, shown: str) -> None:
    """Raise ModelError where the file is no TFLite file."""
    del support
    try:
        flatbuffer.read(data)
    except ValueError as error:
        raise ModelError(f"{shown} is not a valid TFLite file: {error}") from error


def template_of(data: bytes, network: fx.GraphModule, example: Tensor) -> Template | None:
    """Return a converted network as the template of what is cut from it; None where it is not one to be rewritten.

    Args:
        network: that was converted, its weights all different.
    """
    try:
        own = constants(network)
        template = study(data, own)
        error = difference(network, example, answers(rewrite(template, own), example.numpy()))
    except (FastPathUnsupportedError, ValueError, RuntimeError) as reason:
        log.warning("the converted base cannot be rewritten: %s; each candidate will be converted in full", reason)
        return None
    if not error <= STRUCTURAL:
        log.warning("the base, rewritten, differs by %.1e; each candidate will be converted in full", error)
        return None
    return template


class TFLite:
    """TFLite files of what was, and is, cut from one network."""

    precision = FLOAT32

    def __init__(self, python: Path, template: Template | None, example: Tensor) -> None:
        """Keep the converter's Python, the converted base and the images that files are tried with."""
        self._python = python
        self._template = template
        self._example = example

    def file(self, network: fx.GraphModule) -> bytes:
        """Return the network's file; raises ExportError."""
        rewritten = self._rewritten(network)
        if rewritten is not None:
            return rewritten
        model = flatbuffer.read(convert(self._python, network, self._example))
        flatbuffer.name_ends(model, INPUT, OUTPUT)
        data = flatbuffer.write(model)
        require_equal(network, self._example, answers(data, self._example.numpy()), "TFLite")
        return data

    def skeleton(self, network: fx.GraphModule) -> Skeleton:
        """Return the network's file without its weights; raises ExportError."""
        data = self.file(network)
        return Skeleton(skeleton(data), len(data), structure(network))

    def answers(self, file: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return LiteRT's scores."""
        return answers(file, images)

    def _rewritten(self, network: fx.GraphModule) -> bytes | None:
        """Return the template with this network's weights; None where that is not possible."""
        if self._template is None:
            return None
        try:
            data = rewrite(self._template, constants(network))
            error = difference(network, self._example, answers(data, self._example.numpy()))
        except (FastPathUnsupportedError, ValueError, RuntimeError) as reason:
            log.warning("this candidate cannot be rewritten: %s; converting it in full", reason)
            return None
        if not error <= TOLERANCE:
            log.warning("this candidate, rewritten, differs by %.1e; converting it in full", error)
            return None
        return data
