"""Test vectors: inputs, and the answers of a bundle's own network to them, for any board to compare its own with."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.companions import RUNTIME
from pipeline.errors import OutputError, first_line

COUNT = 4
INPUTS = "test_inputs.npy"
TOLERANCES: Mapping[str, float] = {"float32": 1e-3, "fp16": 2e-2, "int8": 0.1}
"""Largest difference between boards, as a share of the largest score. Float32: x86-64 and arm64 agree to 6 digits;
INT8: versions of a runtime fuse different operators; onnxruntime 1.10 and 1.31 differ by up to 5 %."""
_PIXELS = 255


def write_vectors(
    folder: Path,
    fed: Mapping[str, Any],
    files: Mapping[str, str],
    sample: Path | None,
    task: Mapping[str, Any] | None = None,
    *,
    others: Mapping[str, str] | None = None,
) -> dict[str, Any] | None:
    """Write inputs and answers into a folder that holds model files and runtime.py; return what the manifest says.

    Args:
        fed: the manifest's ``input``.
        files: name of each model file → its precision.
        sample: a real image or signal, or of another task arrays as the network takes them (.npz), which the inputs
            begin with; the others are drawn, always the same.
        task: the manifest's ``task``; None: classification.
        others: name of each model file of another network → its precision; they need not answer as the rest does.

    None: what runs such files is not installed here, or runtime.py does not feed such a network.

    Raises:
        OutputError: a model file does not run.
    """
    if "normalisation" not in fed or not (folder / RUNTIME).exists():
        return None
    library = runpy.run_path(str(folder / RUNTIME))  # as it will run elsewhere, a format of one's own included
    if task is None:
        inputs = _inputs(fed, None if sample is None else library["open_input"](str(sample), fed))
    else:
        inputs = _arrays(task, None if sample is None else library["open_arrays"](str(sample), task), library["packed"])
    about = {"input": fed, **({} if task is None else {"task": task})}
    batches = [library["as_batch"](one, about) for one in inputs]
    outputs = {}
    for name, precision in {**files, **(others or {})}.items():
        try:
            network = library["opened"](str(folder / name), about)
            answers = np.stack([np.asarray(network(batch)[0], np.float32) for batch in batches])
        except ImportError:
            return None
        except Exception as error:  # runtimes' errors share no base
            raise OutputError(f"{name} does not run here: {first_line(error)}") from error
        if not np.isfinite(answers).all():
            raise OutputError(f"{name} answers with what is no number")
        stored = f"test_outputs.{name}.npy"
        np.save(folder / stored, answers, allow_pickle=False)
        outputs[name] = {"file": stored, "precision": precision, "tolerance": TOLERANCES[precision]}
        if name not in files:
            outputs[name]["network"] = name
    np.save(folder / INPUTS, inputs, allow_pickle=False)
    return {"inputs": INPUTS, "count": len(inputs), "outputs": outputs}


def _arrays(
    task: Mapping[str, Any], sample: list[NDArray[Any]] | None, packed: Callable[[list[NDArray[Any]]], NDArray[Any]]
) -> NDArray[Any]:
    """Return values as the network takes them, N x shape; of several inputs as rows."""
    random = np.random.RandomState(0)
    first = [] if sample is None else [packed(sample)]
    drawn = [
        packed([random.standard_normal([1, *one["shape"]]) for one in task["inputs"]])
        for _ in range(COUNT - len(first))
    ]
    return np.concatenate([*first, *drawn]).astype(np.float32)


def _inputs(fed: Mapping[str, Any], sample: NDArray[Any] | None) -> NDArray[Any]:
    """Return 8-bit pixels, N x height x width x channels, or signals, N x channels x samples."""
    shape, random = fed["shape"], np.random.RandomState(0)
    first = [] if sample is None else [sample]
    if len(shape) == 2:
        mean, std = (np.asarray(fed["normalisation"][name])[:, None] for name in ("mean", "std"))
        drawn = [mean + std * random.standard_normal(shape) for _ in range(COUNT - len(first))]
        return np.stack([*first, *drawn]).astype(np.float32)
    channels, height, width = shape
    drawn = [random.randint(0, _PIXELS + 1, (height, width, channels)) for _ in range(COUNT - len(first))]
    return np.stack([*first, *drawn]).astype(np.uint8)
