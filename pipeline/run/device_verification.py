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

TOLERANCES = {FLOAT32: 0.002, INT8: 0.01, FP16: 0.01}
"""The device may differ from the host by so much of the verified images. In INT8 kernels of other processors round sums
that lie between two steps the other way; in FP16 the host answers in float32."""


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
    right_here = context.format.answers(model, images.numpy()).argmax(1) == labels.numpy()
    there, here = float(right_there.mean()), float(right_here.mean())
    if abs(there - here) > TOLERANCES[context.format.precision]:
        raise ExportError(
            f"the device answers {there:.1%} of {len(labels)} images right, the host {here:.1%}, with the same "
            "file; its runtime computes something else: try another version of it"
        )
    return VerifiedAccuracy(there, here, len(labels))
