"""INT8 tried on the uncut network: how it answers, in which form the board is fastest, what stays float32.

Whole network first: its answers decide, with blocks of layers in float32 where it hurts; then the board measures each
form that may be the fastest; then blocks that are slower in INT8 than in float32 leave it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from pipeline.devices.host_processor import host_processor
from pipeline.errors import CandidateError
from pipeline.evaluation.device_bench import Bench
from pipeline.events import Note, Stage
from pipeline.export.format import INT8, Skeleton
from pipeline.export.quantization.int8_settings import Int8Settings
from pipeline.export.quantization.open_int8 import Int8File, Int8Format, open_int8
from pipeline.export.quantization.qdq import SCHEMES, Scheme
from pipeline.export.quantization.quantize import CALIBRATION_IMAGES
from pipeline.export.signature import packed
from pipeline.measurement.validity import why_invalid
from pipeline.pruning.complexity import measures_of
from pipeline.quantization.float_blocks import Block, FloatBlocks, float_blocks
from pipeline.quantization.float_runs import with_float_runs
from pipeline.quantization.judgement import Judgement, Parent
from pipeline.quantization.schemes import schemes_of
from pipeline.records import Figures, Interval, Measurement, PrecisionDecision
from pipeline.report.table import ratio
from pipeline.run.base_model import Base
from pipeline.run.context import Context
from pipeline.run.decision_kind import Unfit


def int8_format(context: Context, settings: Int8Settings) -> Int8Format:
    """Return what writes INT8 files of the run's networks, calibrated with the same training images for all."""
    images = packed(next(context.data.train.batches(CALIBRATION_IMAGES, limit=CALIBRATION_IMAGES))[0])
    return open_int8(context.format, images, settings)


def settings_of(context: Context, decision: PrecisionDecision) -> Int8Settings:
    """Return how a run that has decided for INT8 quantizes its networks."""
    return Int8Settings(
        float_layers=frozenset(decision.float_layers),
        scheme=replace(SCHEMES[decision.scheme], weight_bits=decision.weight_bits),
        operators=context.agent.int8_operators,
    )  # fmt: skip


def int8_decision(context: Context, base: Base, *, is_asked_for: bool) -> PrecisionDecision:
    """Return the decision for INT8 by what the uncut network answers in it, and how fast the device is with it.

    Raises:
        Unfit: it answers worse, or the device is no faster; only what cannot be had where it was asked for by name.
    """
    context.listen(Stage("Try the base model in INT8"))
    trial = _Trial(context, base)
    usual = Int8Settings(scheme=_schemes(context)[0], operators=context.agent.int8_operators)
    try:
        made, judged = trial.judged(usual)
    except CandidateError as error:
        raise Unfit(str(error)) from error
    if not judged.is_good and not is_asked_for:
        raise Unfit(f"INT8 answers {_answers(judged)}")
    settings, measured = trial.fastest(replace(usual, float_layers=frozenset(made.float_layers)))
    if not _is_faster(measured) and not is_asked_for:
        raise Unfit(f"INT8 is no faster on {context.agent.device.name} ({_shown(measured)} of float32's latency)")
    hurt, by_time = made.float_layers, context.config.float_blocks == "measure"
    blocks = trial.blocks_by_time(settings, made.layers, measured) if by_time else None
    if blocks is not None:
        settings = replace(settings, float_layers=settings.float_layers | set(blocks.layers))
        measured = trial.measured(settings)
        made = trial.format(settings).quantized(base.network)
        judged = trial.judge(made.data)
    figures = Figures(
        search_accuracy=judged.int8, test_accuracy=None, **asdict(measures_of(base.network, context.example)),
        size_bytes=len(made.data), measurement=measured,
    )  # fmt: skip
    return PrecisionDecision(
        precision=INT8, base=figures, agreement=judged.agreement, float_layers=tuple(sorted(settings.float_layers)),
        scheme=settings.scheme.name, weight_bits=settings.scheme.weight_bits,
        why="; ".join(_reasons(context, settings.scheme, measured, judged, hurt, blocks)),
    )  # fmt: skip


def _schemes(context: Context) -> tuple[Scheme, ...]:
    device = context.agent.device
    return schemes_of(context.boards.processors, host_processor(), device.format, device.runtime)


def _reasons(
    context: Context,
    scheme: Scheme,
    measured: Measurement,
    judged: Judgement,
    hurt: Sequence[str],
    blocks: FloatBlocks | None,
) -> Iterator[str]:
    doubt = "" if _is_faster(measured) else ", which is no faster, but asked for"
    yield f"networks compute in INT8: uncut it has {_shown(measured)} of float32's latency{doubt}, {_answers(judged)}"
    if hurt:
        yield f"in float32 stay {', '.join(hurt)}, where INT8 hurts"
    if blocks is not None:
        yield (
            f"in float32 stay {', '.join(blocks.layers)}, by which the device is faster: {ratio(blocks.ratio)} of INT8 "
            "throughout"
        )
    device = context.agent.device
    if scheme.weight_bits < 8 and device.format == "onnx":
        where = "this machine" if host_processor().saturates else device.name
        yield f"weights have seven bits: those of eight saturate on {where}, an x86 processor that shows no VNNI"
    if (computed := context.agent.int8_operators) is not None and "Gemm" not in computed:
        name = device.runtime
        version = context.agent.facts.runtimes.get(name, "")
        yield f"{name} {version} computes {', '.join(sorted(computed))} in INT8, the rest of the network in float32"


@dataclass(frozen=True)
class _Trial:
    """The uncut network, quantized this way and that."""

    context: Context
    base: Base

    @property
    def bench(self) -> Bench:
        return Bench(self.context.boards, self.context.store, self.base.skeleton)

    def format(self, settings: Int8Settings) -> Int8Format:
        return int8_format(self.context, settings)

    def judge(self, file: bytes) -> Judgement:
        return self._parent().judge(file)

    def judged(self, settings: Int8Settings) -> tuple[Int8File, Judgement]:
        """Return the network in INT8, and how it answers; with runs of float layers where it needs them."""
        network = self.base.network
        first, parent = self.format(settings).quantized(network), self._parent()
        judged = parent.judge(first.data)
        if judged.is_good:
            return first, judged

        def make(layers: Sequence[str]) -> Int8File:
            return self.format(replace(settings, float_layers=frozenset(layers))).quantized(network)

        return with_float_runs(first, judged, first.layers, make, parent.judge)

    def fastest(self, settings: Int8Settings) -> tuple[Int8Settings, Measurement]:
        """Return the form in which the device is fastest, of those that it computes right, and its figures.

        The usual one stays where another is no faster than its interval allows for.

        Raises:
            Unfit: there is none.
        """
        found: list[tuple[Int8Settings, Measurement]] = []
        refused: list[str] = []
        for scheme in _schemes(self.context):
            one = replace(settings, scheme=scheme)
            try:
                found.append((one, self.measured(one)))
            except Unfit as reason:
                refused.append(reason.why)
        if not found:
            raise Unfit("; ".join(dict.fromkeys(refused)))
        best = found[0]
        for entry in found[1:]:
            best = entry if _is_below(entry[1].ratio, best[1].ratio) else best
        if len(found) + len(refused) > 1:
            shown = ", ".join([f"{one.scheme.name} {_shown(figures)}" for one, figures in found] + refused)
            self.context.listen(Note(f"forms of INT8 on {self.context.agent.device.name}: {shown}"))
        return best

    def measured(self, settings: Int8Settings) -> Measurement:
        """Return the network's figures beside the float32 base's, in several processes; raise Unfit where invalid."""
        try:
            found = self.bench.remeasure(self.skeleton(settings))
        except CandidateError as error:
            raise Unfit(str(error)) from error
        if why := why_invalid(found):
            raise Unfit(f"it could not be measured in INT8 ({', '.join(why)})")
        return found

    def blocks_by_time(
        self, settings: Int8Settings, layers: Sequence[str], measured: Measurement
    ) -> FloatBlocks | None:
        """Return blocks of layers by which the device is faster where they stay float32."""
        if measured.ratio is None:
            return None
        whole = self.skeleton(settings)
        names = [layer for layer in layers if layer not in settings.float_layers]
        self.context.listen(Stage("Find blocks that are faster in float32"))

        def latency(block: Block) -> float | None:
            self.context.stop_if_requested()
            found = self._with_block(settings, block)
            if found is None:
                return None
            try:
                figures = self.bench.measure_skeleton(f"uncut {found.structure}", lambda: found)
            except CandidateError:  # as of a recording by a version that did not ask
                return None
            return None if figures is None or figures.ratio is None else figures.ratio.value

        def beside_whole(block: Block) -> Interval | None:
            found = self._with_block(settings, block)
            if found is None:
                return None
            try:
                figures = self.bench.compare(found, whole)
            except CandidateError:
                return None
            return None if why_invalid(figures) else figures.ratio

        return float_blocks(names, measured.ratio.value, latency, beside_whole)

    def skeleton(self, settings: Int8Settings) -> Skeleton:
        return self.format(settings).skeleton(self.base.network)

    def _with_block(self, settings: Int8Settings, block: Collection[str]) -> Skeleton | None:
        """Return the skeleton with a block in float32; None where a runtime would not keep it so."""
        format = self.format(replace(settings, float_layers=settings.float_layers | set(block)))
        try:
            format.quantized(self.base.network)
            return format.skeleton(self.base.network)
        except CandidateError:
            return None

    def _parent(self) -> Parent:
        context = self.context
        return Parent(
            context.format.file(self.base.network), context.data.search, context.config.evaluation.search_images
        )


def _is_below(one: Interval | None, other: Interval | None) -> bool:
    return one is not None and (other is None or one.value < other.low)


def _is_faster(measured: Measurement) -> bool:
    return measured.ratio is not None and measured.ratio.high < 1


def _shown(measured: Measurement) -> str:
    return "not measured" if measured.ratio is None else ratio(measured.ratio)


def _answers(judged: Judgement) -> str:
    return f"{judged.int8:.1%} right instead of {judged.float32:.1%}, {judged.agreement:.1%} alike"
