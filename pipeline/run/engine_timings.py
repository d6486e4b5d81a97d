"""Times of an engine's layers, which the agent keeps on the board from build to build."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_DECIDE = ("gpu", "tensorrt", "power_mode")


def timings_on_board(conditions: Mapping[str, Any], agent_dir: str) -> str | None:
    """Return the file's path on the board; None where these conditions are of no engine that was built there.

    It is named as the agent's TensorRT runtime names it: such times hold for a GPU, a version and a power mode,
    whatever the network.

    Args:
        conditions: of a measurement.
        agent_dir: as the inventory has it.
    """
    values = [conditions.get(name) for name in _DECIDE]
    if not all(isinstance(value, str) for value in values):
        return None
    return f"{agent_dir}/files/{hashlib.sha256(json.dumps(values).encode()).hexdigest()}.timings"
