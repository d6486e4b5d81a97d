"""Device verification: a whole file answers on the device as on the host."""

from __future__ import annotations

from hashlib import sha256

from pipeline.errors import ExportError, MeasureError
from pipeline.events import Note, Stage
from pipeline.export.format import FLOAT32, FP16, INT8
from pipeline.export.format_plugin import model_format
from pipeline.records import VerifiedAccuracy
from pipeline.run.context import Context
from pipeline.store.facts import VERIFIED

TOLERANCES = {FLOAT32: 0.002, FP16: 0.01}
"""The shares of right answers on device and host may differ by so much; in FP16 the host answers in float32."""
LEAST_SAME_CLASS = {INT8: 0.99}
"""Device and host put so many of the images into the same class with the same file. In INT8 kernels of other processors
round sums that lie between two steps the other way, so that scores differ by more than in float32."""


def verify(context: Context, model: bytes) -> VerifiedAccuracy:
    """Let the device answer real images with a whole file, once in a run, and compare it with the host.

    A recording holds the outputs of its own files alone; a network that another machine trained to other weights is
    not verified when it is played back, and says so.

    Raises:
        ExportError: they differ by more than the tolerance.
        MeasureError: the device cannot load or run the file.
    """
    fact = VERIFIED.of(sha256(model).hexdigest())
    if known := context.store.get(fact):
        return known
    verified = _verified(context, model)
    context.store.set(fact, verified)
    return verified


def _verified(context: Context, model: bytes) -> VerifiedAccuracy:
    images, labels = next(context.data.val.batches(context.config.fine_tuning.verify_images))
    context.listen(Stage(f"Verify on the device with {len(labels)} images"))
    try:
        there_said = context.agent.verify(model, images.numpy(), model_format(context.agent.device.format).ending)
    except MeasureError as error:
        if context.agent.device.recording is None:
            raise
        context.listen(Note(f"not verified: {error}"))
        return VerifiedAccuracy(None, None, 0)
    right_there = there_said.argmax(1) == labels.numpy()
    here_said = context.format.answers(model, images.numpy())
    right_here = here_said.argmax(1) == labels.numpy()
    there, here = float(right_there.mean()), float(right_here.mean())
    same = float((there_said.argmax(1) == here_said.argmax(1)).mean())
    if (tolerance := TOLERANCES.get(context.format.precision)) is not None and abs(there - here) > tolerance:
        raise ExportError(
            f"the device answers {there:.1%} of {len(labels)} images right, the host {here:.1%}, with the same "
            "file; its runtime computes something else: try another version of it"
        )
    if not _is_same(same, len(labels), LEAST_SAME_CLASS.get(context.format.precision)):
        raise ExportError(
            f"the device puts {same:.1%} of {len(labels)} images into the class that the host finds with the same "
            "file; its runtime computes something else: try another version of it"
        )
    return VerifiedAccuracy(there, here, len(labels), same)


def _is_same(share: float, images: int, least: float | None) -> bool:
    """Return whether enough images are of the same class; of a few images, one may be of another.

    >>> _is_same(0.95, 20, 0.99), _is_same(0.95, 500, 0.99), _is_same(0.1, 500, None)
    (True, False, True)
    """
    return least is None or round((1 - share) * images) <= max(1, int((1 - least) * images + 1e-9))
