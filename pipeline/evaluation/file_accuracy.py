"""Score of a model file, as this machine's runtime answers with it."""

from __future__ import annotations

import torch

from pipeline.data.dataset import Split
from pipeline.export.quantization.host_scores import open_on_host
from pipeline.export.signature import packed
from pipeline.objective.task import Judged, Task

_BATCH = 250


def file_score(file: bytes, split: Split, task: Task, limit: int | None = None) -> float:
    """Return the task's metric over a file's answers to the first ``limit`` images; None: to all.

    An INT8 file of ResNet-20 is two (TFLite) to three times (ONNX) as fast to read as torch's float network.

    Args:
        file: of a network that takes one tensor and answers with one.

    Raises:
        ConfigError: a function of the task fails.
    """
    scores, judged = open_on_host(file), Judged(task)
    for images, targets in split.batches(_BATCH, limit=limit):
        judged.add(torch.from_numpy(scores(packed(images))), targets)
    return judged.score()
