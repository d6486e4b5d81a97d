"""Device verification: a whole file answers on the device as on the host."""

from __future__ import annotations

import math
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import structures
from pipeline.errors import ExportError, MeasureError
from pipeline.events import Note, Stage
from pipeline.export.format import FLOAT32, FP16, INT8
from pipeline.export.format_plugin import model_format
from pipeline.export.signature import Signature, packed
from pipeline.objective.task import Judged, Task
from pipeline.records import VerifiedAccuracy
from pipeline.run.context import Context
from pipeline.store.facts import VERIFIED

TOLERANCES = {FLOAT32: 0.002, FP16: 0.01}
"""The shares of right answers on device and host may differ by so much; in FP16 the host answers in float32."""
LEAST_SAME_CLASS = {INT8: 0.99}
"""Device and host put so many of the images into the same class with the same file. In INT8 kernels of other processors
round sums that lie between two steps the other way, so that scores differ by more than in float32."""
_MOST_VALUES = 10_000_000
"""Outputs that a device sends in one answer; of networks that answer with maps, fewer images are verified."""


def verify(context: Context, model: bytes, signature: Signature | None = None) -> VerifiedAccuracy:
    """Let the device answer real images with a whole file, once in a run, and compare its score with the host's.

    A recording holds the outputs of its own files alone; a network that another machine trained to other weights is
    not verified when it is played back, and says so.

    Args:
        signature: of the network in the file; None: it takes one tensor and answers with one.

    Raises:
        ExportError: they differ by more than the tolerance.
        MeasureError: the device cannot load or run the file.
    """
    fact = VERIFIED.of(sha256(model).hexdigest())
    if known := context.store.get(fact):
        return known
    verified = _verified(context, model, signature)
    context.store.set(fact, verified)
    return verified


def _verified(context: Context, model: bytes, signature: Signature | None) -> VerifiedAccuracy:
    task, values = context.data.task, sum(map(math.prod, signature.shapes)) if signature else 0
    most = max(1, _MOST_VALUES // max(1, values))
    inputs, targets = next(context.data.val.batches(min(context.config.fine_tuning.verify_images, most)))
    images, count = packed(inputs), structures.count(inputs)
    context.listen(Stage(f"Verify on the device with {count} images"))
    try:
        ending = model_format(context.agent.device.format).ending
        there_said = context.boards.on_one(lambda agent: agent.verify(model, images, ending))
    except MeasureError as error:
        if context.agent.device.recording is None:
            raise
        context.listen(Note(f"not verified: {error}"))
        return VerifiedAccuracy(None, None, 0)
    here_said = context.format.answers(model, images)
    there, here = (_score(said, here_said, targets, signature, task) for said in (there_said, here_said))
    if (tolerance := TOLERANCES.get(context.format.precision)) is not None and abs(there - here) > tolerance:
        if task.puts_into_classes:
            differ = f"answers {there:.1%} of {count} images right, the host {here:.1%}"
        else:
            differ = f"comes to {task.shown(there)} with {count} images, the host to {task.shown(here)}"
        raise ExportError(
            f"the device {differ}, with the same file; its runtime computes something else: try another version of it"
        )
    same = _same_class(there_said, here_said) if task.puts_into_classes else None
    if same is not None and not _is_same(same, count, LEAST_SAME_CLASS.get(context.format.precision)):
        raise ExportError(
            f"the device puts {same:.1%} of {count} images into the class that the host finds with the same "
            "file; its runtime computes something else: try another version of it"
        )
    return VerifiedAccuracy(there, here, count, same)


def _same_class(there: NDArray[np.float32], here: NDArray[np.float32]) -> float:
    """Return the share of images that both put into the same class."""
    return float((there.reshape(here.shape).argmax(1) == here.argmax(1)).mean())


def _is_same(share: float, images: int, least: float | None) -> bool:
    """Return whether enough images are of the same class; of a few images, one may be of another.

    >>> _is_same(0.95, 20, 0.99), _is_same(0.95, 500, 0.99), _is_same(0.1, 500, None)
    (True, False, True)
    """
    return least is None or round((1 - share) * images) <= max(1, int((1 - least) * images + 1e-9))


def _score(
    said: NDArray[np.float32], here: NDArray[np.float32], targets: Any, signature: Signature | None, task: Task
) -> float:
    """Return the score that outputs come to, which arrive as rows where they are more than one tensor."""
    if said.size != here.size:
        raise ExportError(
            f"the device answers with {said.size} values, the host with {here.size}, with the same file; where its "
            "runtime is a plugin of yours, let outputs() return all outputs (docs/extending/runtime.md)"
        )
    judged = Judged(task)
    plain = signature is None or signature.is_plain
    judged.add(torch.from_numpy(said.reshape(here.shape)) if plain or signature is None else signature.unpacked(said),
               targets)  # fmt: skip
    return judged.score()
