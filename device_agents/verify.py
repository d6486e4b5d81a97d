"""Real images through the candidate on the board, so that the host can compare its answers with its own."""

import array
import base64
import math
import sys
from typing import Any, Callable, Dict, List

from device_agents import npy
from device_agents.arguments import Verify
from device_agents.errors import AgentError
from device_agents.progress import Progress
from device_agents.protocol import INVALID
from device_agents.runtimes import open_runtime, refusals
from device_agents.wire import Emit

_BATCH = 32


def run(asked: Verify, folder: str, emit: Emit) -> Dict[str, Any]:
    """Return the candidate's outputs for all images; ``candidate`` and ``inputs`` are paths here.

    Raises:
        AgentError: REFUSED for whatever the runtime raises, INVALID for outputs that are not finite, BAD_REQUEST
            for inputs that are no float32 images.
    """
    del folder
    progress = Progress(emit)
    runtime, _ = open_runtime(asked.runtime)
    with refusals():
        model = runtime.load(asked.candidate, asked.conditions, 0)
        outputs, count = _all_outputs(model, asked.inputs, lambda: progress.tell("verify"))
    if not _finite(outputs):
        raise AgentError(INVALID, "the candidate's outputs are not finite numbers")
    return {
        "outputs": base64.b64encode(outputs).decode("ascii"),
        "shape": [count, len(outputs) // 4 // count],
    }


def _all_outputs(model: Any, path: str, tell: Callable[[], None]) -> Any:
    """Return the outputs of all images as raw float32 values, and the number of images."""
    parts: List[bytes] = []
    total = 0
    for values, shape in npy.images(path, model.batch or _BATCH):
        tell()
        count, padded = shape[0], model.batch or shape[0]
        values += bytes(len(values) // count * (padded - count))
        answer = model.outputs(values, (padded,) + shape[1:])
        parts.append(answer[: len(answer) // padded * count])
        total += count
    return b"".join(parts), total


def _finite(raw: bytes) -> bool:
    values = array.array("f", raw)
    if sys.byteorder == "big":
        values.byteswap()
    return all(map(math.isfinite, values))
