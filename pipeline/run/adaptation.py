"""Adaptation of a finished run: ladder, study, what ships; kept in the run's store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from deploy.controller import decision_us
from pipeline import serialization
from pipeline.adaptation.choice import controller_json
from pipeline.adaptation.judgement import interval
from pipeline.adaptation.rule_in_words import rule_in_words
from pipeline.adaptation.study import QUICK, Size, Studied, StudySettings, ordered, study
from pipeline.config import RunConfig
from pipeline.errors import ConfigError, UserError
from pipeline.evaluation.device_bench import Bench
from pipeline.events import Listener, Note, Stage
from pipeline.export.format_plugin import model_format
from pipeline.export.quantization.host_scores import open_on_host
from pipeline.measurement.drift import corrected, corrected_power
from pipeline.records import Artifact
from pipeline.records.adaptation import Adaptation, Variant
from pipeline.report.adaptation import write_adaptation
from pipeline.run.base_model import make_base
from pipeline.run.context import Context
from pipeline.run.decisions import with_decisions
from pipeline.run.ladder import CHEAP, PLAIN, ROBUST, UNCUT, LadderBuilder
from pipeline.run.round import builder_of
from pipeline.run.runner import Prepared
from pipeline.run.unseen_images import unseen_images
from pipeline.store import Store
from pipeline.store.facts import ADAPTATION, BASE
from pipeline.store.runs import FINISHED
from pipeline.store.settings import config_of
from pipeline.store.spaces import space_of_round
from pipeline.store.task import puts_into_classes

PAGE = "adaptation.html"
MOST = 4
"""Variants of a ladder, unless told."""
MOST_LADDER = 16
BUDGET_S = 30 * 60.0
TRAINING_SHARE = 0.6
"""Of the budget; the rest is for answering frames."""
RING = 1000
"""Decisions that the controller remembers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptSettings:
    """What is wanted of an adaptive bundle."""

    floor: float | None = None
    """Accuracy on streams that is not to be missed; None: the chosen network's own there."""
    deadline_ms: float | None = None
    most: int = MOST
    budget_s: float = BUDGET_S
    quick: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.floor is not None and not 0 < self.floor <= 1:
            raise ConfigError(f"--floor is {self.floor:g}; it must be between 0 and 1, for example 0.8")
        if self.deadline_ms is not None and not self.deadline_ms > 0:
            raise ConfigError(f"--deadline-ms is {self.deadline_ms:g}; give the milliseconds that a frame may take")
        if not 2 <= self.most <= MOST_LADDER:
            raise ConfigError(f"--ladder is {self.most}; a ladder has 2 to {MOST_LADDER} networks")
        if not self.budget_s > 0:
            raise ConfigError("--budget is no time; give one such as 30m")


def require_adaptable(store: Store) -> None:
    """Raise UserError where a run cannot be adapted, before anything is loaded."""
    if store.status != FINISHED:
        raise UserError(f"run {store.id} is {store.status}; first see it through: pipeline run --resume {store.id}")
    if not puts_into_classes(store):
        raise UserError(
            f"run {store.id} puts nothing into classes: the controller goes by the margin between two classes; take a "
            "run of the task classification"
        )
    if reason := why_no_ladder(config_of(store)):
        raise UserError(f"run {store.id} cannot be adapted: {reason}")


def why_no_ladder(config: RunConfig) -> str:
    """Return why a run with these settings has no ladder, and what to do; empty: nothing stands against one."""
    if config.rounds > 1:
        return "of several rounds, later ones cut another network than the base model; take a run of one round"
    if config.conditions:
        return "with a plan for each condition no single network is the plain one; take a run without --condition"
    return ""


def adapt(
    ready: Prepared, store: Store, settings: AdaptSettings, *, listen: Listener, stopping: Callable[[], bool]
) -> Adaptation:
    """Return what came of adapting a finished run; it is in the store, and told on a page in the run's folder.

    Raises:
        UserError: the run's data cannot be used.
        CandidateError: a variant cannot be made or measured.
        DeviceError: the device was lost; what is finished stands.
    """
    if len(ready.inputs.data.shape) != 3:
        raise UserError(f"{ready.inputs.data.name} is not of images; corruptions are of images alone")
    context = ready.context(store, listen=listen, stopping=stopping)
    base = make_base(context, ready.inputs.model)
    context = with_decisions(context, base)
    space = space_of_round(store, 1)
    builder = replace(builder_of(context, base.network, space), space=space)
    ladder = LadderBuilder(
        context=context, builder=builder, bench=Bench(context.boards, store, base.skeleton), base=base,
        budget_s=TRAINING_SHARE * settings.budget_s, quick=settings.quick,
    )  # fmt: skip
    made = _made(ladder, next(one for one in store.artifacts() if one.chosen))
    return _studied(context, made, settings)


def _made(ladder: LadderBuilder, chosen: Artifact) -> dict[str, Artifact]:
    """Return the candidates for the ladder by what they are called."""
    plain = ladder.plain(chosen)
    cheap = ladder.cheap(plain)
    made = {PLAIN: plain, ROBUST: ladder.robust(plain), UNCUT: ladder.uncut()}
    return made if cheap is None else {CHEAP: cheap, **made}


def _studied(context: Context, made: dict[str, Artifact], settings: AdaptSettings) -> Adaptation:
    store, data = context.store, context.data
    variants = _measured(context, made)
    names, costs = list(made), [one.cost for one in variants]
    ladder, order = ordered(names, costs, [one.latency_ms.value for one in variants], settings.deadline_ms)
    variants = [variants[i] for i in order]
    _require_in_time(settings, variants)
    scores = [open_on_host(store.blob(one.file_sha256).read_bytes()) for one in variants]
    wanted = StudySettings(
        size=QUICK if settings.quick else Size(), most=settings.most, plain=PLAIN, floor=settings.floor,
        seed=settings.seed, budget_s=(1 - TRAINING_SHARE) * settings.budget_s,
    )  # fmt: skip
    parts = unseen_images(data, store.required(BASE))
    if parts.note:
        context.listen(Note(parts.note))
    found = study(
        scores, ladder, (parts.tuning, parts.selection), parts.test, wanted, listen=context.listen,
        stop=context.stop_if_requested,
    )  # fmt: skip
    context.listen(Stage("Write the controller's settings and the page"))
    adaptation = _adaptation(context, variants, found, settings)
    store.set(ADAPTATION, adaptation)
    write_adaptation(adaptation, store.path / PAGE)
    return adaptation


def _measured(context: Context, made: dict[str, Artifact]) -> list[Variant]:
    """Return each variant's figures; costs are of energy where a meter saw all of them, else of latency."""
    base = context.store.required(BASE).measurement
    after = {name: one.after.measurement for name, one in made.items()}
    latencies = {name: corrected(found, base) for name, found in after.items()}
    powers = {name: corrected_power(found, base) for name, found in after.items()}
    energies = {name: None if power is None else power.energy_total_mj for name, power in powers.items()}
    costs = {name: (energies[name] or latencies[name]).value for name in made}
    if any(one is None for one in energies.values()):
        costs = {name: latency.value for name, latency in latencies.items()}
    file = model_format(context.agent.device.format).file
    return [
        Variant(
            name=name, artifact=one.id, file_sha256=one.files[file], size_bytes=one.after.size_bytes,
            precision=one.precision, cost=costs[name] / costs[PLAIN], latency_ms=latencies[name],
            energy_mj=energies[name], clean=one.after.search_accuracy, corrupted=0.0,
        )
        for name, one in made.items()
    ]  # fmt: skip


def _require_in_time(settings: AdaptSettings, variants: list[Variant]) -> None:
    fastest = min(variants, key=lambda one: one.latency_ms.value)
    if settings.deadline_ms is not None and fastest.latency_ms.low > settings.deadline_ms:
        raise ConfigError(
            f"--deadline-ms {settings.deadline_ms:g}: the fastest variant, {fastest.name}, takes "
            f"{fastest.latency_ms.value:.3g} ms; give a longer deadline, or prune further"
        )


def _adaptation(context: Context, variants: list[Variant], found: Studied, settings: AdaptSettings) -> Adaptation:
    store, choice = context.store, found.choice
    kept = [
        replace(variants[at], clean=clean, corrupted=corrupted)
        for at, clean, corrupted in zip(found.kept, found.clean, found.corrupted, strict=True)
    ]
    names = files_of(kept, model_format(context.agent.device.format).ending)
    file = controller_json(choice, found.ladder, names, ring=RING)
    has_energy = all(one.energy_mj is not None for one in variants)
    return Adaptation(
        run=store.id, device=context.agent.device.name, cost_of="energy" if has_energy else "latency",
        variants=tuple(kept), dropped=found.dropped, deadline_ms=settings.deadline_ms, floor=choice.floor,
        ceiling=interval(choice.ceiling), ships=choice.ships, why=choice.why,
        rule=rule_in_words(choice.points["normal"].rule, found.ladder.names), judged=found.judged,
        decisions=found.decisions, decision_us=decision_us(file, context.data.shape),
        settings=store.put_blob(serialization.to_text(file).encode()), seed=settings.seed, frames=found.frames,
    )  # fmt: skip


def files_of(variants: list[Variant], ending: str) -> list[str]:
    """Return what each variant's file is called in a bundle: the plain one's as in any, one content one file."""
    plain = next(one for one in variants if one.name == PLAIN)
    named = {plain.file_sha256: f"model.{ending}"}
    for one in variants:
        named.setdefault(one.file_sha256, f"variant-{one.name}.{ending}")
    return [named[one.file_sha256] for one in variants]
