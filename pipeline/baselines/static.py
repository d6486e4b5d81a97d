"""Static baselines of a finished run: pruned without a search to the run's latency, fine-tuned alike.

none            the base model as it is
magnitude       the same share of every group, by L1; the largest share that is fast enough
l1-in-training  the base model trained further with an L1 penalty, then Network Slimming's cut: the smallest batch norm
                scales of the whole network go. Where a group has no batch norm, the cut is as magnitude's; where
                the network has none at all, the penalty is on the weights.

Fast enough is a measured latency no more than one percent above that of the run's network, which is measured again in
the same session. Both pruned ones then go through what the run's chosen finalist went through, by the run's settings:
their layers are fitted to the cut, and they are fine-tuned, in every round. So only the choice of what to cut differs.
What is finished is in the run's store; what was measured or trained there once is not done again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from safetensors.torch import load_file
from torch import fx

from pipeline.baselines.stored import L1_IN_TRAINING, MAGNITUDE
from pipeline.baselines.uniform_plans import Kept, Narrowing, above_threshold, from_widest, plans, scales, uniform
from pipeline.errors import CandidateError, ConfigError, MeasureError
from pipeline.evaluation.candidate_builder import Builder, score_as_deployed
from pipeline.evaluation.device_bench import Bench
from pipeline.events import Listener, Note, Stage
from pipeline.export.format_plugin import model_format
from pipeline.models.safetensors_io import weights_bytes
from pipeline.pruning.complexity import measures_of
from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.importance.ranking import rank
from pipeline.pruning.surgery.prune import Ranking, cut, surplus_over
from pipeline.records import Artifact, Baseline, Figures, Interval, Measurement, SearchSpace
from pipeline.run.base_model import Base, make_base
from pipeline.run.context import Context
from pipeline.run.decisions import with_decisions
from pipeline.run.full_training import FullTraining, full_training
from pipeline.run.runner import Prepared
from pipeline.run.successive_halving import rungs_of
from pipeline.run.training_stage import discard_checkpoint, train_with_checkpoints
from pipeline.store import Store
from pipeline.store.facts import BASELINE, SPACE, TRAINED_BASELINE, TRAINED_IN_FULL
from pipeline.training.settings import FineTuning, settings_of
from pipeline.training.sparsity import penalised

SLACK = 1.01
USUAL_L1 = 1e-4
"""Network Slimming's, where the run's own settings have no penalty."""
_FULL = "-full"
_PASSES_OF_AUTO = 14.0
"""Of the training with a penalty, where nobody knows how long the chosen network was trained: three cycles."""
_Netted = Callable[[Kept], fx.GraphModule]
"""From channels to the network that has so many, not fine-tuned."""


def make_baselines(ready: Prepared, store: Store, *, listen: Listener, stopping: Callable[[], bool]) -> None:
    """Make what is missing of a finished run's baselines; everything goes into ``store``.

    Raises:
        PipelineError: what is stored stands, and the same command goes on there.
    """
    context = ready.context(store, listen=listen, stopping=stopping)
    base = make_base(context, ready.inputs.model)
    context = with_decisions(context, base)
    work = _Work(
        context=context, base=base, bench=Bench(context.boards, store, base.skeleton),
        space=store.required(SPACE.of(1)),
        chosen=next(artifact for artifact in store.artifacts() if artifact.chosen),
    )  # fmt: skip
    for name, make in ((MAGNITUDE, work.magnitude), (L1_IN_TRAINING, work.l1_in_training)):
        context.stop_if_requested()
        if store.get(BASELINE.of(name)) is None:
            store.set(BASELINE.of(name), _or_why_not(name, make))


def _or_why_not(name: str, make: Callable[[], Baseline]) -> Baseline:
    """Return a baseline, or that its own cut or training failed, as it would again; what the board failed at raises."""
    try:
        return make()
    except MeasureError:
        raise
    except CandidateError as error:
        return Baseline(name=name, figures=None, why_not=str(error))


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What all baselines of a run share."""

    context: Context
    base: Base
    bench: Bench
    space: SearchSpace
    """Of the first round: what may be cut in the base model."""
    chosen: Artifact

    def magnitude(self) -> Baseline:
        network = self.base.network
        return self._made(MAGNITUDE, network, self._ranking(network, "l1"), self._uniform)

    def l1_in_training(self) -> Baseline:
        settings = self._sparsity()
        network = copy.deepcopy(self.base.network)
        self._trained(L1_IN_TRAINING, "sparse", network, settings)
        found = scales(network, self.space, self.context.example) if settings.l1_on == "batch_norm" else None
        if found is None:
            return self._made(L1_IN_TRAINING, network, self._ranking(network, "l1"), self._uniform)
        narrowing = above_threshold(self.space, self.context.config.pruning.min_channels, found)
        return self._made(L1_IN_TRAINING, network, self._ranking(network, "bn_scale"), narrowing)

    # ------------------------------------------------------------ helpers

    @property
    def _uniform(self) -> Narrowing:
        return uniform(self.space, self.context.config.pruning.min_channels)

    def _ranking(self, network: fx.GraphModule, criterion: str) -> Ranking:
        return rank(network, self.space, criterion, dependency_graph(network, self.context.example).groups, [])

    def _builder(self, network: fx.GraphModule, ranking: Ranking) -> Builder:
        context, config = self.context, self.context.config
        return Builder(
            base=network, space=self.space, ranking=ranking, data=context.data, settings=config.evaluation,
            fine_tuning=config.fine_tuning, format=context.format, example=context.example,
        )  # fmt: skip

    def _made(self, name: str, network: fx.GraphModule, ranking: Ranking, narrowing: Narrowing) -> Baseline:
        """Return the widest network that is fast enough, fine-tuned and judged."""
        context = self.context
        limit = self._limit()

        def netted(kept: Kept) -> fx.GraphModule:
            return cut(network, self.space, kept, ranking, context.example)

        context.listen(Stage(f"Find the widest net of {name} at {limit.value:.3f}× of the base model's latency"))
        fits = self._fits(netted, limit)
        found = plans(narrowing, self.space)
        for share, kept in from_widest(found, fits):
            context.stop_if_requested()
            pruned = netted(kept)
            measured = self._whole(context.format.file(pruned), f"{name}:{_key(kept)}")
            if _ratio(measured).value <= limit.value * SLACK:
                context.listen(Note(f"{name}: {share:.0%} kept, {_ratio(measured).value:.3f}× as measured"))
                context.listen(Stage(f"Fit the layers of {name} to its cut"))
                self._builder(network, ranking).fit_as_finalist(pruned, surplus_over(self.space, kept, ranking))
                figures = self._judged(name, pruned, measured)
                return Baseline(name=name, figures=figures, limit=limit, share=share, channels=kept)
        why = f"it cannot be as fast as {limit.value:.3f}× of the base model: {self._narrowest(found, netted)}"
        context.listen(Note(f"{name}: {why}"))
        return Baseline(name=name, figures=None, limit=limit, why_not=why)

    def _narrowest(self, found: Sequence[tuple[float, Kept]], netted: _Netted) -> str:
        """Return in words how fast the narrowest plan is."""
        if not found:
            return "nothing narrower than the base model can be cut this way"
        measured = self._probed(netted, found[-1][1])
        return f"its narrowest net has {_ratio(measured).value:.3f}×" if measured else "its nets were all too slow"

    def _limit(self) -> Interval:
        """Return the latency ratio of the run's own network, measured now."""
        file = self.chosen.files[model_format(self.context.agent.device.format).file]
        self.context.listen(Stage("Measure the run's own network again"))
        return _ratio(self._whole(self.context.store.blob(file).read_bytes(), f"chosen:{file[:12]}"))

    def _fits(self, netted: _Netted, limit: Interval) -> Callable[[Kept], bool]:
        def fits(kept: Kept) -> bool:
            self.context.stop_if_requested()
            found = self._probed(netted, kept)
            return found is not None and _ratio(found).value <= limit.value * SLACK

        return fits

    def _probed(self, netted: _Netted, kept: Kept) -> Measurement | None:
        return self.bench.measure_skeleton(f"baseline:{_key(kept)}", lambda: self.context.format.skeleton(netted(kept)))

    def _whole(self, model: bytes, name: str) -> Measurement:
        kind = model_format(self.context.agent.device.format).ending
        return self.bench.measure_file(model, f"baseline:whole:{name}", kind=kind)

    def _judged(self, name: str, network: fx.GraphModule, measured: Measurement) -> Figures:
        """Return the figures of a network once it is fine-tuned; the test split is read here, this once."""
        context = self.context
        search_accuracy = 0.0
        for stage, training in self._fine_tunings():
            if isinstance(training, FullTraining) and training.judge is None:  # it trains on the search split
                search_accuracy = self._searched(network)
            self._trained(name, stage, network, training)
            if isinstance(training, FullTraining) and training.judge is not None:
                search_accuracy = self._searched(network)
        context.listen(Stage(f"Read the test split for {name}, once"))
        return Figures(
            search_accuracy=search_accuracy,
            test_accuracy=score_as_deployed(network, context.format, context.data.test, context.data.task),
            **asdict(measures_of(network, context.example)),
            size_bytes=len(context.format.file(network)), measurement=measured,
        )  # fmt: skip

    def _searched(self, network: fx.GraphModule) -> float:
        context = self.context
        images = context.config.evaluation.search_images
        return score_as_deployed(network, context.format, context.data.search, context.data.task, images)

    def _fine_tunings(self) -> Iterator[tuple[str, FineTuning | FullTraining]]:
        """Yield the name of each training of the run's chosen network, and how it was; a rung's by its settings."""
        config = self.context.config
        for number in range(1, config.rounds + 1):
            for place, rung in enumerate(rungs_of(config.fine_tuning, self._candidates(number), config.seed), 1):
                yield f"{number}-rung{place}", rung.settings
            last = number == config.rounds and not self.context.compared
            yield f"{number}{_FULL}", full_training(self.context, last=last)

    def _candidates(self, number: int) -> int:
        """Return how many candidates for a finalist the run's round had."""
        trials = self.context.store.trials()
        return len({t.key for t in trials if t.round == number and t.feasible and t.reward is not None})

    def _sparsity(self) -> FineTuning:
        """Return how the base model is trained further with the penalty: as long as the chosen network was in full."""
        config = self.context.config
        section = config.fine_tuning
        sparsity = section.sparsity if section.sparsity.l1 else config.base_training.sparsity
        known = self.context.store.get(TRAINED_IN_FULL.of(self.chosen.id))
        epochs = _PASSES_OF_AUTO if section.epochs == "auto" else section.epochs
        epochs = epochs if known is None else known["passes"]
        settings = settings_of(section, epochs=epochs, min_steps=section.min_steps, seed=config.seed)
        settings = replace(settings, l1=sparsity.l1 or USUAL_L1, l1_on=sparsity.on)
        try:
            penalised(self.base.network, settings.l1, settings.l1_on)
        except ConfigError:  # no batch norm
            return replace(settings, l1_on="weights")
        return settings

    def _trained(self, name: str, stage: str, network: fx.GraphModule, training: FineTuning | FullTraining) -> None:
        """Train a network in place, unless its weights are stored from an earlier part of the work."""
        context, store, checkpoint = self.context, self.context.store, _training(name, stage)
        settings = training.settings if isinstance(training, FullTraining) else training
        if settings.epochs == 0:
            return
        if (weights := store.get(TRAINED_BASELINE.of(checkpoint))) is None:
            title, teacher = f"Train {name}, {stage}", self.base.network
            if isinstance(training, FullTraining):
                training.train(context, network, teacher, name=checkpoint, title=title)
            else:
                train_with_checkpoints(
                    context, network, context.data.train, training, name=checkpoint, title=title, teacher=teacher,
                    judge=context.data.search,
                )  # fmt: skip
            store.set(TRAINED_BASELINE.of(checkpoint), store.put_blob(weights_bytes(network)))
            discard_checkpoint(context, checkpoint)
        else:
            network.load_state_dict(load_file(store.blob(weights)))
        network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _ratio(measured: Measurement) -> Interval:
    assert measured.ratio is not None  # the bench measures everything beside the base model
    return measured.ratio


def _key(kept: Mapping[str, int]) -> str:
    return "-".join(map(str, kept.values()))


def _training(name: str, stage: str) -> str:
    return f"baseline-{name}-{stage}"
