"""INT8 settings: how networks are quantized for one board, the same for all that is cut from one network."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256

from torch import fx

from pipeline.export.fingerprint import structure
from pipeline.export.format import INT8
from pipeline.export.quantization.qdq import U8S8, Scheme


@dataclass(frozen=True, kw_only=True)
class Int8Settings:
    """What is decided for a board."""

    float_layers: frozenset[str] = frozenset()
    """Weights of layers that stay float32, by their names, which a cut keeps."""
    scheme: Scheme = U8S8
    """How ONNX files are rounded; TFLite has one way."""
    operators: Collection[str] | None = None
    """Kinds of ONNX operators that the board's runtime computes in INT8; None: all that ONNX Runtime knows today."""

    def structure(self, network: fx.GraphModule) -> str:
        """Return the structure of a network's INT8 file, which is not the one of its float32 file.

        How many bits its weights have is not part of it: it costs no time.
        """
        found = f"{structure(network)}-{INT8}"
        if self.scheme.name != U8S8.name:
            found += f"-{self.scheme.name}"
        if self.float_layers:
            found += f"-{sha256(repr(sorted(self.float_layers)).encode()).hexdigest()[:12]}"
        return found


AS_USUAL = Int8Settings()
"""Everything in INT8 that can be, for ONNX Runtime as of today."""
