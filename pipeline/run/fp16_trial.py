"""FP16 tried on the uncut network: how it answers on the device, and how fast that is with it."""

from __future__ import annotations

from dataclasses import asdict

from pipeline.errors import CandidateError
from pipeline.evaluation.candidate_builder import score_as_deployed
from pipeline.evaluation.device_bench import Bench
from pipeline.events import Stage
from pipeline.export.format import FP16
from pipeline.export.formats.onnx import Onnx
from pipeline.export.fp16_format import Fp16Onnx
from pipeline.measurement.validity import why_invalid
from pipeline.pruning.complexity import measures_of
from pipeline.records import Figures, PrecisionDecision
from pipeline.report.table import ratio
from pipeline.run.base_model import Base
from pipeline.run.context import Context
from pipeline.run.decision_kind import Unfit
from pipeline.run.fp16_answers import answers_in_fp16


def fp16_format(context: Context) -> Fp16Onnx:
    """Return what writes files that ask TensorRT for FP16."""
    assert isinstance(context.format, Onnx)  # what TensorRT loads; looked at before it was decided
    return Fp16Onnx(parent=context.format)


def fp16_decision(context: Context, base: Base, *, is_asked_for: bool) -> PrecisionDecision:
    """Return the decision for FP16 by what the uncut network answers in it, and how fast the device is with it.

    Raises:
        Unfit: it answers worse, or the device is no faster; only what cannot be had where it was asked for by name.
    """
    context.listen(Stage("Try the base model in FP16"))
    format = fp16_format(context)
    file = format.file(base.network)
    try:
        found = answers_in_fp16(context, base.network, file)
        if not found.judged.is_good and not is_asked_for:
            raise Unfit(f"FP16 answers {found.in_words}")
        measured = Bench(context.boards, context.store, base.skeleton).remeasure(format.skeleton(base.network))
    except CandidateError as error:
        raise Unfit(str(error)) from error
    if why := why_invalid(measured):
        raise Unfit(f"it could not be measured in FP16 ({', '.join(why)})")
    is_faster = measured.ratio is not None and measured.ratio.high < 1
    shown = "not measured" if measured.ratio is None else ratio(measured.ratio)
    if not is_faster and not is_asked_for:
        raise Unfit(f"FP16 is no faster on {context.agent.device.name} ({shown} of float32's latency)")
    doubt = "" if is_faster else ", which is no faster, but asked for"
    data, limit = context.data, context.config.evaluation.search_images
    figures = Figures(
        search_accuracy=score_as_deployed(base.network, format, data.search, data.task, limit), test_accuracy=None,
        **asdict(measures_of(base.network, context.example)), size_bytes=len(file), measurement=measured,
    )  # fmt: skip
    return PrecisionDecision(
        precision=FP16, base=figures, agreement=found.judged.agreement,
        why=f"networks compute in FP16: uncut it has {shown} of float32's latency{doubt}, {found.in_words}",
    )  # fmt: skip
