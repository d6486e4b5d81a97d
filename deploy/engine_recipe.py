"""How TensorRT builds an engine of a bundle's ONNX file: flags, workspace, and trtexec's command, by its version.

Options as NVIDIA's samples/common/sampleOptions.cpp has them: the workspace is ``--workspace=MB`` up to TensorRT 8.3
and ``--memPoolSize=workspace:MB`` from 8.4 on; quantize-dequantize pairs need ``--int8``.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any

_TRTEXEC = "/usr/src/tensorrt/bin/trtexec"
"""Where JetPack puts it."""
ENGINE, TIMINGS = "model.engine", "timing.cache"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRecipe:
    """What an engine is built with."""

    precision: str
    """``float32``, ``int8`` or ``fp16``."""
    workspace_mb: int
    """GPU memory that a layer may take while the engine is built and run."""
    built_on: str | None = None
    """Version of TensorRT that built and measured the run's engine; None: none did."""
    gpu: str | None = None
    """The one that it was measured on."""
    known_timings: str | None = None
    """Where the agent keeps the times of that GPU's layers on that board; None: no engine was built there."""

    def as_json(self, onnx: str) -> dict[str, Any]:
        """Return the recipe for the ONNX file of this name."""
        return {
            "onnx": onnx,
            "engine": ENGINE,
            "flags": {"fp16": self.precision == "fp16", "int8": self.precision == "int8"},
            "workspace_mb": self.workspace_mb,
            "timing_cache": {"file": TIMINGS, "of_the_agent_on_the_board": self.known_timings},
            "measured_with": {"tensorrt": self.built_on, "gpu": self.gpu},
            "commands": {
                "TensorRT 8.4 and later": f"trtexec {self.options(onnx)}",
                "TensorRT 8.0 to 8.3": f"trtexec {self.options(onnx, is_old=True)}",
            },
        }

    def options(self, onnx: str, *, is_old: bool = False) -> str:
        """Return trtexec's options.

        Layers' times are kept in a file beside the engine, which makes the next build on that board a quick one.

        Args:
            onnx: the ONNX file's name.
            is_old: of TensorRT 8.0 to 8.3.
        """
        flags = {"float32": [], "int8": ["--int8"], "fp16": ["--fp16"]}[self.precision]
        workspace = f"--workspace={self.workspace_mb}" if is_old else f"--memPoolSize=workspace:{self.workspace_mb}"
        words = [f"--onnx={onnx}", f"--saveEngine={ENGINE}", *flags, workspace, f"--timingCacheFile={TIMINGS}"]
        return " ".join(words)


def build_files(recipe: EngineRecipe, onnx: str) -> dict[str, str]:
    """Return build.json and build.sh by their names."""
    known = recipe.known_timings
    reuse = "" if known is None else f"[ -e {TIMINGS} ] || cp {_in_shell(known)} {TIMINGS} 2>/dev/null || :\n"
    script = f"""\
#!/bin/sh
# Builds {ENGINE} of {onnx} on this board, whose GPU and TensorRT alone can run it. TRTEXEC names trtexec elsewhere.
set -eu
cd "$(dirname "$0")"
{reuse}trtexec=${{TRTEXEC:-{_TRTEXEC}}}
if "$trtexec" --help | grep -q -e --memPoolSize; then
    "$trtexec" {recipe.options(onnx)}
else
    "$trtexec" {recipe.options(onnx, is_old=True)}
fi
"""
    return {"build.json": json.dumps(recipe.as_json(onnx), indent=2) + "\n", "build.sh": script}


def _in_shell(path: str) -> str:
    """Return a path as a shell reads it, ``~`` as its user's home.

    >>> print(_in_shell("~/.cache/a b"), _in_shell("~/.cache/agent"), _in_shell("/data/agent"))
    "$HOME"/'.cache/a b' "$HOME"/.cache/agent /data/agent
    """
    return f'"$HOME"/{shlex.quote(path[2:])}' if path.startswith("~/") else shlex.quote(path)
