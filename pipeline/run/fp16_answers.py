"""Answers in FP16: the device's own to real images, or, of a recording that has none, this machine's in half precision.

No other machine rounds as TensorRT does: which layers it really computes in half precision, it decides as it builds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx

from pipeline.errors import MeasureError
from pipeline.evaluation.half_precision import InHalfPrecision
from pipeline.export.format_plugin import model_format
from pipeline.export.quantization.host_scores import open_on_host
from pipeline.export.signature import packed
from pipeline.quantization.judgement import Judgement, judgement
from pipeline.run.context import Context

_BATCH = 250


@dataclass(frozen=True, slots=True)
class Fp16Answers:
    """How a network answers in FP16 beside float32, and who was asked."""

    judged: Judgement
    on_device: bool

    @property
    def in_words(self) -> str:
        """The answers, and who gave them, in part of a sentence."""
        found = self.judged
        who = "read on the device" if self.on_device else "computed in half precision on this machine"
        return (
            f"{found.int8:.1%} right instead of {found.float32:.1%}, {found.agreement:.1%} alike ({found.images} "
            f"images, {who})"
        )


def answers_in_fp16(context: Context, network: fx.GraphModule, file: bytes) -> Fp16Answers:
    """Return how the device answers images of the search split with ``file``, beside float32 on this machine.

    Raises:
        MeasureError: the device does not build or run the file.
        ExportError: a recording lacks its answers, and torch does not compute the network in half precision.
    """
    inputs, labels = next(context.data.search.batches(context.config.fine_tuning.verify_images))
    images = packed(inputs)
    before = open_on_host(file)(images).argmax(1)
    try:
        ending = model_format(context.agent.device.format).ending
        answers = context.boards.on_one(lambda agent: agent.verify(file, images, ending))
        after, on_device = answers.argmax(1), True
    except MeasureError:
        if context.agent.device.recording is None:
            raise
        half = InHalfPrecision(network).eval()
        with torch.inference_mode():
            scores = torch.cat([half(part) for part in torch.split(torch.from_numpy(images), _BATCH)])
        after, on_device = scores.argmax(1).numpy(), False
    return Fp16Answers(judgement(labels.numpy(), before, after), on_device)
