"""Parity: every model file of a bundle answers the stored inputs as it did, and files of one precision answer alike.

A model file from elsewhere may ask for all memory there is, or never end. So it runs in a process of its own, with
limits of memory and time, by this package's runtime library and not by the bundle's.

    python -m deploy.parity FOLDER      one line of JSON
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from deploy import runtime
from pipeline.errors import BundleError
from pipeline.printable import printable

MOST_BYTES = 8 * 1024**3
"""Address space of the process: runtimes reserve gigabytes, and touch few of them."""
CPU_S, WALL_S = 300, 600
OPENED = ("onnx", "tflite", "tensorrt")
"""Formats whose files run here; TensorRT's is an ONNX file until a board builds its engine."""
_MOST_OUTPUT_BYTES = 1 << 20


def check_parity(folder: Path) -> dict[str, Any]:
    """Return the largest differences, as shares of the largest score: by file, and between files of one precision.

    Raises:
        BundleError: a file does not run within the limits, or answers otherwise; names it.
    """
    command = [sys.executable, "-P", "-m", "deploy.parity", str(folder.absolute())]
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=WALL_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env=environment,
            cwd="/",
        )
    except subprocess.TimeoutExpired as error:
        raise BundleError(f"{folder}: the stored inputs were not answered within {WALL_S} s") from error
    if done.returncode != 0 or len(done.stdout) > _MOST_OUTPUT_BYTES:
        said = done.stderr[-2000:].decode("utf-8", "replace").strip().splitlines()[-1:] or ["nothing"]
        how = f"was ended by signal {-done.returncode}" if done.returncode < 0 else "failed"
        raise BundleError(f"{folder}: running its model file {how}: {printable(said[0], 300)}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if found["problems"]:
        raise BundleError(f"{folder}: {'; '.join(printable(problem, 300) for problem in found['problems'])}")
    return found


def compare(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return differences and problems; see ``check_parity``."""
    vectors = manifest["test_vectors"]
    about = dict(manifest)
    batches = runtime.stored_inputs(folder, about)
    if len(batches) != vectors["count"]:
        return {"files": {}, "pairs": [], "problems": [f"{vectors['inputs']} holds {len(batches)} inputs"]}
    answers: dict[str, Any] = {}
    files: dict[str, float] = {}
    problems = []
    for name, entry in sorted(vectors["outputs"].items()):
        _require_whole(folder / name)
        network = runtime.opened(str(folder / name), about)
        answers[name] = np.stack([np.asarray(network(batch)[0], np.float32) for batch in batches])
        files[name] = runtime.difference(answers[name], runtime.load_array(folder, entry["file"]), about)
        if not files[name] <= entry["tolerance"]:
            stored = (
                f"{entry['file']} holds, by {files[name]:.2g} of the largest score; {entry['tolerance']:g} is usual"
            )
            problems.append(f"{name} answers otherwise than {stored}")
    pairs = []
    for (one, first), (other, second) in combinations(sorted(answers.items()), 2):
        if vectors["outputs"][one].get("network") != vectors["outputs"][other].get("network"):
            continue
        found = runtime.difference(first, second, about)
        same = vectors["outputs"][one]["precision"] == vectors["outputs"][other]["precision"]
        pairs.append({"files": [one, other], "difference": min(found, 1e9), "same_precision": same})
        if same and not found <= vectors["outputs"][one]["tolerance"]:
            problems.append(f"{one} and {other} answer differently, by {found:.2g} of the largest score")
    return {"files": {name: min(one, 1e9) for name, one in files.items()}, "pairs": pairs, "problems": problems}


def _require_whole(path: Path) -> None:
    """Refuse an ONNX file whose weights lie elsewhere: an older onnxruntime reads them from any path."""
    if path.suffix != ".onnx":
        return
    import onnx
    from onnx.external_data_helper import uses_external_data

    model = onnx.load(str(path), load_external_data=False)
    if any(uses_external_data(tensor) for tensor in _tensors(model.graph)):
        raise ValueError(f"{path.name} has weights in other files; export it in one piece")


def _tensors(graph: Any) -> Any:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from _tensors(inner)


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _main(folder: Path) -> None:
    _limit()
    manifest = runtime.read_manifest(folder)
    sys.stdout.write(json.dumps(compare(folder, manifest)) + "\n")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
