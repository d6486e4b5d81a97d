"""ONNX, for onnxruntime and TensorRT: each network put together of parts that were exported once.

A file that stands for a network in any figure of a result is checked: whole files, the finalists', answer every
example image as their network does, or they are exported in full and checked again. Skeletons carry no weights, only
what an operator is and how many channels pass it, so during the search it is those that are compared with it: each
value's shape by ONNX's rules is the one that torch gives it (see ``onnx_parts.composition``), and the base model's
operators are those of its full export. On top of that a candidate's whole file is tried with an image wherever it has
an operation that no tried file had, and every tenth in any case. One answer that is wrong where the full export's is
right, and the rest of the candidates is exported in full.
"""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import fx

from pipeline import structures
from pipeline.errors import first_line
from pipeline.export.fingerprint import structure
from pipeline.export.format import FLOAT32, FastPathUnsupportedError, OnNote, Skeleton
from pipeline.export.onnx.compose import Composition, compose
from pipeline.export.onnx.exporter import answers, export, read, whole
from pipeline.export.onnx.operator_export import Fragments
from pipeline.export.onnx.padded_shortcuts import with_convolutions
from pipeline.export.onnx.skeleton import skeleton
from pipeline.export.onnx.torch_exporter import opset_of
from pipeline.export.signature import packed
from pipeline.export.verify_outputs import TOLERANCE, difference
from pipeline.records import OnnxSupport
from pipeline.structures import Inputs

__all__ = [
    "ENDING", "PACKAGES", "RUNTIME", "TRIED_EVERY", "Onnx", "open_format", "require_usable", "skeleton",
]  # fmt: skip

ENDING = "onnx"
RUNTIME = "ONNX Runtime"
PACKAGES = ("onnxruntime",)

TRIED_EVERY = 10
"""Skeletons, of which one whole file is tried though all of its operations were tried before."""

log = logging.getLogger(__name__)


def open_format(base: fx.GraphModule, example: Inputs, *, support: OnnxSupport, on_note: OnNote) -> Onnx:
    """Export the base, and see that the same comes out when it is put together of parts.

    Raises:
        ExportError: the network cannot be written as ONNX.
    """
    base = with_convolutions(base, example)
    exported = whole(base, structures.part(example, 0, 1), opset_of(support))
    fragments = Fragments(opset_of(support))
    try:
        _require_operators(compose(base, example, fragments, support).model, exported)
    except FastPathUnsupportedError as reason:
        on_note(f"each candidate is exported in full, which takes seconds: {reason}")
        return Onnx(example, support, None)
    return Onnx(example, support, fragments)


def require_usable(data: bytes, support: OnnxSupport | None, *, shown: str) -> None:
    """Raise ModelError where the file is damaged, not in one piece, or newer than the device's runtime loads."""
    read(data, support, name=shown)


class Onnx:
    """ONNX files that a device's runtime loads."""

    precision = FLOAT32

    def __init__(self, example: Inputs, support: OnnxSupport, fragments: Fragments | None) -> None:
        """Keep the images that files are tried with.

        Args:
            fragments: of the base network; None: everything is exported in full.
        """
        self._example, self._support = example, support
        self._fragments = fragments
        self._tried: frozenset[str] = frozenset()
        self._skeletons = 0
        self._has_warned = False

    def file(self, network: fx.GraphModule) -> bytes:
        """Return the network's file; raises ExportError."""
        composition = self._composed(network)
        if composition is None:
            return export(network, self._example, self._support)
        data = composition.file()
        fault = self._fault(data, composition, network, self._example)
        return data if fault is None else self._instead(network, fault)

    def unchecked_file(self, network: fx.GraphModule) -> bytes:
        """Return the network's file where only its structure counts: its answers are not tried; raises ExportError."""
        composition = self._composed(network)
        return export(network, self._example, self._support) if composition is None else composition.file()

    def skeleton(self, network: fx.GraphModule) -> Skeleton:
        """Return the network's file without its weights; raises ExportError."""
        composition = self._composed(network)
        if composition is None:
            return _stripped(export(network, self._example, self._support), network)
        if self._to_be_tried(composition):
            fault = self._fault(composition.file(), composition, network, structures.part(self._example, 0, 1))
            if fault is not None:
                return _stripped(self._instead(network, fault), network)
        return Skeleton(composition.skeleton(), composition.size_bytes(), structure(network))

    def answers(self, file: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return onnxruntime's answers."""
        return answers(file, images)

    def _composed(self, network: fx.GraphModule) -> Composition | None:
        if self._fragments is None:
            return None
        try:
            example = self._example
            return compose(with_convolutions(network, example), example, self._fragments, self._support)
        except FastPathUnsupportedError as reason:
            log.log(
                logging.DEBUG if self._has_warned else logging.WARNING,
                "a candidate cannot be put together of exported parts: %s; it is exported in full, as others may be",
                reason,
            )
            self._has_warned = True
            return None

    def _to_be_tried(self, composition: Composition) -> bool:
        self._skeletons += 1
        return not composition.fragments <= self._tried or self._skeletons % TRIED_EVERY == 0

    def _fault(self, data: bytes, composition: Composition, network: fx.GraphModule, images: Inputs) -> str | None:
        """Return what is wrong with a whole file's answers; None, and remember its parts, where nothing is."""
        try:
            error = difference(network, images, answers(data, packed(images)))
        except Exception as reason:  # onnxruntime's errors share no base
            return f"does not run: {first_line(reason)}"
        if not error <= TOLERANCE:
            return f"differs by {error:.1e}"
        self._tried |= composition.fragments
        return None

    def _instead(self, network: fx.GraphModule, fault: str) -> bytes:
        """Return the network's full export, and trust no parts again where that answers as it should.

        Raises:
            ExportError: it does not either: it is the network's fault.
        """
        data = export(network, self._example, self._support)
        log.warning("a candidate, put together of exported parts, %s; from now on each is exported in full", fault)
        self._fragments = None
        return data


def _stripped(file: bytes, network: fx.GraphModule) -> Skeleton:
    return Skeleton(skeleton(file), len(file), structure(network))


def _require_operators(composed: onnx.ModelProto, whole: onnx.ModelProto) -> None:
    """Raise FastPathUnsupportedError unless a composed file has the operators of the fully exported one."""
    found, wanted = (Counter(node.op_type for node in model.graph.node) for model in (composed, whole))
    if found != wanted:
        few, many = ", ".join(sorted(wanted - found)) or "none", ", ".join(sorted(found - wanted)) or "none"
        raise FastPathUnsupportedError(f"put together of parts, it has too few operators {few}, and too many {many}")
