"""Accuracy of a model file, as this machine's runtime answers with it."""

from __future__ import annotations

from pipeline.data.dataset import Split
from pipeline.export.quantization.host_scores import open_on_host

_BATCH = 250


def file_accuracy(file: bytes, split: Split, limit: int | None = None) -> float:
    """Return the share of right answers of a file to the first ``limit`` images; None: to all.

    An INT8 file of ResNet-20 is two (TFLite) to three times (ONNX) as fast to read as torch's float network.
    """
    scores, right, seen = open_on_host(file), 0, 0
    for images, labels in split.batches(_BATCH, limit=limit):
        right += int((scores(images.numpy()).argmax(1) == labels.numpy()).sum())
        seen += len(labels)
    return right / seen
