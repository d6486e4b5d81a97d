"""Ladder of a run: its chosen network, a cheaper one, a robust one of the same plan, and the base model.

Each is trained on the training split alone, exported, verified and measured as a run's finalists are, and is an
artifact of the run from then on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import fx

from pipeline.adaptation.augmentation import Corrupting, corrupted_split
from pipeline.adaptation.study import kinds_of
from pipeline.data.conditions import TRAINING
from pipeline.errors import UserError
from pipeline.evaluation.candidate_builder import Builder
from pipeline.evaluation.device_bench import Bench
from pipeline.events import Note, Stage
from pipeline.measurement.validity import why_invalid
from pipeline.records import FULL, UNTRIED, Artifact, Figures, PruningPlan, Trial
from pipeline.run.base_model import Base
from pipeline.run.context import Context
from pipeline.run.finalists import Finalists, figures_before
from pipeline.run.full_training import full_training
from pipeline.run.replanning import replan
from pipeline.run.training_stage import train_with_checkpoints
from pipeline.store.facts import TRAINED_IN_FULL, TrainedInFull
from pipeline.targets import Target
from pipeline.training.score import score
from pipeline.training.settings import FineTuning, settings_in_full

PLAIN, CHEAP, ROBUST, UNCUT = "plain", "cheap", "robust", "uncut"
"""Variants: the network that would be deployed alone, one of another plan, one of the plain one's plan trained on
corrupted images, and the base model."""
CHEAPER, CHEAPEST = 0.75, 0.25
"""Of the plain variant's latency: between these a cheap one is looked for."""
QUICK_PASSES, QUICK_S = 4.0, 30.0
"""Of a training in a first look: so many passes, or so long."""
ROBUST_SHARE = 0.6
"""Of the time for training."""


@dataclass(frozen=True, kw_only=True)
class LadderBuilder:
    """Makes a run's variants, each once: a finished one is in the store."""

    context: Context
    builder: Builder
    bench: Bench
    base: Base
    budget_s: float
    """For all trainings together."""
    quick: bool = False
    """A few passes instead, whatever the budget."""

    @property
    def finalists(self) -> Finalists:
        """What makes networks of plans, and artifacts of networks; no target counts any more."""
        return Finalists(context=self.context, builder=self.builder, bench=self.bench, base=self.base, limits={})

    def plain(self, chosen: Artifact) -> Artifact:
        """Return the chosen network; where it has learnt from all but the test split, its plan is trained anew.

        Margins on images that a network was trained on say nothing.
        """
        in_full = full_training(self.context, last=True)
        if not chosen.id.endswith(FULL) or in_full.judge is not None:
            return chosen
        brief = self._known(chosen.id.removesuffix(FULL))
        if brief is None:
            raise UserError(f"run {self.context.store.id} lacks the finalist {chosen.id.removesuffix(FULL)}")
        said = "the chosen network has learnt from the validation split, too: its plan is trained on the training split"
        self.context.listen(Note(f"{said} alone, for images are needed that no network of the ladder has seen"))
        name = self._name(f"{brief.id}-{PLAIN}")
        network = self.finalists.network(brief)
        return self._known(name) or self._trained(replace(brief, id=name), network, "the plain one")

    def robust(self, plain: Artifact) -> Artifact:
        """Return the plain variant, recovered on corrupted images with the base on the clean ones as teacher."""
        name = self._name(f"{plain.id}-{ROBUST}")
        network = self.finalists.network(plain)
        return self._known(name) or self._trained(
            replace(plain, id=name, chosen=False), network, "the robust one, on corrupted images", is_robust=True
        )

    def cheap(self, plain: Artifact) -> Artifact | None:
        """Return a network of another plan, at about half the plain variant's measured latency; None: there is none."""
        found = self._cheap_plan(plain)
        return None if found is None else self.of_plan(*found)

    def of_plan(self, plan: PruningPlan, trial: Trial | None = None) -> Artifact:
        """Return the network of a plan, fine-tuned; ``trial``: in which the search has tried it."""
        which = f"r{self.bench.round}t{trial.index}" if trial else f"r{self.bench.round}"
        name = self._name(f"{which}-{CHEAP}")
        if known := self._known(name):
            return known
        self.context.listen(Stage("Cut the cheap one and fit its layers"))
        index = UNTRIED if trial is None else trial.index
        artifact = self._artifact(name, plan, index, self._before(plan, trial))
        return self._trained(artifact, self.builder.finalist(plan), "the cheap one")

    def uncut(self) -> Artifact:
        """Return the base model as the user brought it, as a file of the device's format and precision."""
        if known := self._known(UNCUT):
            return known
        plan = PruningPlan(levels=(0,) * len(self.builder.space.groups), criterion=self.context.config.criterion)
        artifact = self._artifact(UNCUT, plan, UNTRIED, self.base.figures)
        return self.finalists.artifacts.build(artifact, self.base.network)

    # ------------------------------------------------------------ helpers

    def _name(self, name: str) -> str:
        return f"{name}-quick" if self.quick else name

    def _artifact(self, name: str, plan: PruningPlan, trial: int, before: Figures) -> Artifact:
        return Artifact(
            id=name, trial=trial, plan=plan, key=self.builder.space.network_key(plan), files={}, before=before,
            after=before, device_accuracy=None, host_accuracy=None, round=self.bench.round,
        )  # fmt: skip

    def _known(self, name: str) -> Artifact | None:
        self.context.stop_if_requested()
        return next((one for one in self.context.store.artifacts() if one.id == name), None)

    def _cheap_plan(self, plain: Artifact) -> tuple[PruningPlan, Trial | None] | None:
        """Return the best plan that was measured in the search at about half the latency, or one made for it now."""
        share = plain.after.measurement.ratio
        if share is None:
            return None
        found = [
            (trial.candidate.accuracy, -trial.index, trial)
            for trial in self.context.store.trials()
            if trial.round == self.bench.round and trial.failure is None and trial.candidate and trial.measurement
            and not why_invalid(trial.measurement) and trial.measurement.ratio is not None
            and CHEAPEST <= trial.measurement.ratio.value / share.value <= CHEAPER
        ]  # fmt: skip
        if found:
            best = max(found)[-1]
            return best.plan, best
        wanted = share.value * (CHEAPER * CHEAPEST) ** 0.5
        try:
            return replan(self.context.store, [Target("latency", wanted, relative=True)]).plan, None
        except UserError as error:
            said = f"no plan of the search is between {CHEAPEST:g} and {CHEAPER:g} of the plain one's latency"
            self.context.listen(Note(f"no cheap variant: {said}, and none can be made: {error}"))
            return None

    def _before(self, plan: PruningPlan, trial: Trial | None) -> Figures:
        """Return the figures of a plan before fine-tuning; one that the search has not tried is measured now."""
        if trial is not None and trial.candidate is not None and trial.measurement is not None:
            return figures_before(trial.candidate, trial.measurement)
        built = self.builder.build(plan)
        return figures_before(built.candidate, self.bench.measure(built)[0])

    def _trained(self, artifact: Artifact, network: fx.GraphModule, which: str, *, is_robust: bool = False) -> Artifact:
        """Fine-tune a network, judged on the search split, and make it an artifact."""
        context, data = self.context, self.context.data
        settings = self._settings(ROBUST_SHARE if is_robust else 1 - ROBUST_SHARE)
        judge, vary = data.search, None
        if is_robust:
            seed = context.config.seed
            kinds = kinds_of(TRAINING, data.train)
            vary, judge = Corrupting(data.train, kinds, seed=seed), corrupted_split(data.search, kinds, seed=seed)
        went = train_with_checkpoints(
            context, network, data.train, settings, name=artifact.id, title=f"Fine-tune {which}",
            teacher=self.base.network, judge=judge, hold_zeros=bool(artifact.plan.zeros), expect=True, vary=vary,
        )  # fmt: skip
        passes = went.ended / settings.steps_a_pass(len(data.train))
        context.store.set(TRAINED_IN_FULL.of(artifact.id), TrainedInFull(passes=passes, seconds=went.seconds))
        scored = score(network, data.val, data.task)
        return self.finalists.artifacts.build(replace(artifact, validation_accuracy=scored), network)

    def _settings(self, share: float) -> FineTuning:
        config = self.context.config
        settings = settings_in_full(config.fine_tuning, seed=config.seed)
        if self.quick:
            return replace(settings, epochs=QUICK_PASSES, restarts=False, budget_s=QUICK_S, patience=0)
        return replace(
            settings, epochs=config.fine_tuning.max_epochs, restarts=True, budget_s=share * self.budget_s, patience=0
        )
