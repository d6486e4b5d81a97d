"""One base network on this machine, and every candidate of it built and measured once, kept on disk for all searches.

Searches differ in what they ask for, not in what the answer is: a candidate is known by the channels that it keeps
(``SearchSpace.key``), whoever asked. The folder is a run's store, so figures are written as a run writes them.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from pipeline import plugins
from pipeline.config import EvaluationConfig, RunConfig
from pipeline.data import Split
from pipeline.devices.agent_client import open_agent
from pipeline.devices.board_pool import BoardPool
from pipeline.devices.inventory.load import load_inventory
from pipeline.evaluation.candidate_builder import Builder, Built
from pipeline.evaluation.device_bench import Bench
from pipeline.events import Event, Listener, Note, StageProgress
from pipeline.export.format import Skeleton
from pipeline.measurement.feasibility import deviations
from pipeline.measurement.relative_costs import relative_costs
from pipeline.models.safetensors_io import weights_bytes
from pipeline.predictors.cost_model import CostModel
from pipeline.pruning.reconstruction.batch_norm import FineTuning, accuracy, fine_tune
from pipeline.pruning.search_space import search_space
from pipeline.records import Candidate, Interval, Measurement, PruningPlan, Trial
from pipeline.run.base_model import Base, make_base
from pipeline.run.channel_step import channel_step
from pipeline.run.context import Context
from pipeline.run.inputs import load_inputs, require_fit
from pipeline.run.loop import Measure, search
from pipeline.run.problem import build_problem
from pipeline.run.round import builder_of, space_and_costs
from pipeline.run.search_stage import Search
from pipeline.search.planner import indices
from pipeline.search.strategy import Problem, Strategy
from pipeline.search.strategy_plugin import STRATEGIES
from pipeline.store import Store
from pipeline.store.facts import BASE_WEIGHTS, Fact
from pipeline.targets import Metric

Latency = Literal["measured", "predicted"]

LIKE_PEERS = FineTuning(
    epochs=2, batch_size=128, learning_rate=0.01, momentum=0.9, weight_decay=1e-4, warmup=0.0, teacher_mix=0.0
)
"""The fine-tuning that all methods are compared under: short, on the labels alone, by a cosine."""
LIKE_PEERS_IMAGES = 10_000


_CANDIDATE = Fact("candidate", Candidate)
_TEST_ACCURACY = Fact("test", float)
_CUTS = Fact("single cuts", str)
"""What the cache keeps beside a run's own facts."""


def add_arguments(parser: argparse.ArgumentParser, *, model: str = "resnet20", weights: str | None = None) -> None:
    """Add the options of every script here: data, network, where figures are kept, cores.

    Args:
        weights: what happens without them; None: they have to be given.
    """
    parser.add_argument("--data", required=True, help="as for pipeline run")
    parser.add_argument("--model", default=model)
    parser.add_argument("--weights", type=Path, required=weights is None, help=weights)
    parser.add_argument("--criterion", default=RunConfig().criterion, help="that ranks the channels")
    parser.add_argument(
        "--reconstruction-samples", type=int, default=RunConfig().evaluation.reconstruction_samples,
        help="of each layer's answers, to which layers behind a cut are fitted; 0: batch norm alone is re-estimated",
    )  # fmt: skip
    parser.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="folder of what was measured once")
    parser.add_argument("--inventory", type=Path, help="whose device `local` says how long to measure")
    parser.add_argument("--threads", type=int, default=1, help="of torch")


@dataclass(frozen=True, kw_only=True)
class Testbed:
    """A base network, what may be cut from it, and what is known of its candidates."""

    context: Context
    base: Base
    builder: Builder
    bench: Bench
    costs: CostModel
    """Of single cuts; every search gets a copy that has learnt nothing yet."""
    latency: Latency
    shares: dict[str, float] = field(default_factory=dict)
    """Predicted latency of candidates by key, where predictions count as the truth."""

    def build(self, plan: PruningPlan) -> Built:
        """Return a plan's candidate; its skeleton is empty where nothing will be measured."""
        store, key = self.context.store, self.builder.space.key(plan.levels)
        self.shares[key] = self.predicted(plan)
        known = store.get(_CANDIDATE.of(key))
        if known is None:
            built = self.builder.build(plan)
            store.set(_CANDIDATE.of(key), built.candidate)
            return built
        needed = self.latency == "measured" and store.recall(f"{self.bench.round}:{key}") is None
        weightless = self.builder.skeleton(plan.levels) if needed else Skeleton(b"", 0, "")
        return Built(known, weightless, {})

    def measure(self, built: Built) -> tuple[Measurement, bool]:
        """Return a candidate's figures; measured to the end, whatever the target, so that every search may use them."""
        if self.latency == "measured":
            return replace(self.bench, limits={}).measure(built)
        return self.taken_for_true(self.shares[built.candidate.key]), False

    def measured_longer(self, plan: PruningPlan) -> Interval:
        """Return a plan's latency over the base's, its whole file measured ten times as long as in the search.

        What a search calls fast enough may be so by chance, the more so, the more it has measured.
        """
        if self.latency == "predicted":
            share = self.shares[self.builder.space.key(plan.levels)]
            return Interval(share, share, share)
        file = self.context.format.file(self.builder.network(plan))
        found = self.bench.measure_file(file, f"longer {self.builder.space.key(plan.levels)}", times=10.0)
        assert found.ratio is not None
        return found.ratio

    def predicted(self, plan: PruningPlan) -> float:
        """Return the latency of a plan as the cost model puts it together from single cuts, over the base's."""
        return float(self.costs.predict(np.array([indices(plan)]))["latency"][0])

    def problem(self, limits: Mapping[Metric, float], **changes: object) -> Problem:
        """Return what a strategy may know before its first trial; ``changes`` replaces settings of the run."""
        context = replace(self.context, config=self.context.config.model_copy(update=changes))
        return build_problem(context, self.builder, copy.deepcopy(self.costs), limits, self.base)

    def search(
        self,
        strategy: str,
        *,
        trials: int,
        seed: int,
        limits: Mapping[Metric, float],
        lookahead: int,
        **changes: object,
    ) -> Iterator[Trial]:
        """Yield the trials of one search, as a run would make them; ``changes`` are more settings of the run."""
        problem = self.problem(limits, strategy=strategy, trials=trials, seed=seed, **changes)
        return self.searched(strategy, problem, self.measure, limits=limits, lookahead=lookahead)

    def searched(
        self, strategy: str | Strategy, problem: Problem, measure: Measure, *, limits: Mapping[Metric, float],
        lookahead: int,
    ) -> Iterator[Trial]:  # fmt: skip
        """Yield the trials of one search that has been set up, whatever its costs stand for.

        Args:
            strategy: its name, or itself, made for the problem.
            problem: what it knows.
            measure: returns a candidate's figures.
            limits: by which trials are judged.
            lookahead: candidates begun before the last is through.
        """
        size = self.base.figures.size_bytes
        rules = Search(
            context=self.context, base=self.base, builder=_RememberingBuilder.of(self.builder, self.context.store),
            bench=self.bench, limits=limits, problem=problem,
        )  # fmt: skip
        picks = plugins.load(STRATEGIES, strategy).create(problem) if isinstance(strategy, str) else strategy
        for trial in search(picks, self.build, measure, rules.judge, trials=problem.trials, lookahead=lookahead):
            if trial.failure is None and trial.measurement is not None and trial.candidate is not None:
                costs = relative_costs(trial.measurement, size=trial.candidate.size_bytes / size)
                problem.costs.learn(indices(trial.plan), costs.known, deviations(trial.measurement))
            yield trial

    def test_accuracy(self, plan: PruningPlan, settings: FineTuning | None) -> float:
        """Return a network's accuracy on the test split, as the search judged it or after fine-tuning like the peers'.

        The latter begins as a finalist's does. Read once for each network; nothing is chosen by it.
        """
        name = self.builder.space.key(plan.levels)
        if settings:
            section = self.context.config.fine_tuning
            name += f" fitted to {section.reconstruction_images}, {section.reconstruction_samples} after {settings}"
        fact = _TEST_ACCURACY.of(name)
        known = self.context.store.get(fact)
        if known is None:
            network = self.builder.finalist(plan) if settings else self.builder.network(plan)
            if settings is not None:
                fine_tune(network, some(self.context.data.train, LIKE_PEERS_IMAGES, settings.seed), settings)
            known = accuracy(network, self.context.data.test)
            self.context.store.set(fact, known)
        return known

    def taken_for_true(self, share: float) -> Measurement:
        """Return a share of the base's latency as if it had been measured, without an error."""
        base = self.base.figures.measurement.p50_ms.value
        ms, exact = base * share, Interval(share, share, share)
        return Measurement(
            p50_ms=Interval(ms, ms, ms), p90_ms=ms, p99_ms=ms, mean_ms=ms, inferences=0, ratio=exact, power=None,
            reference_p50_ms=base, runtime="not measured",
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _RememberingBuilder(Builder):
    """Evaluates each network once, whichever search asks for it: of one that is cut up to some layer nothing else."""

    store: Store

    @classmethod
    def of(cls, builder: Builder, store: Store) -> _RememberingBuilder:
        """Return a builder of the same networks."""
        return cls(store=store, **{part.name: getattr(builder, part.name) for part in fields(builder)})

    def build(self, plan: PruningPlan) -> Built:
        """Return a plan's candidate, its skeleton empty where it was evaluated before."""
        fact = _CANDIDATE.of(self.space.key(plan.levels))
        known = self.store.get(fact)
        built = super().build(plan) if known is None else Built(known, Skeleton(b"", 0, ""), {})
        self.store.set(fact, built.candidate)
        return built


def _tell(event: Event) -> None:
    """Say what is measured before the first search."""
    if isinstance(event, Note):
        print(f"  {event.text}", file=sys.stderr, flush=True)
    elif isinstance(event, StageProgress) and event.done % 10 == 0:
        print(f"  {event.done} single cuts are known", file=sys.stderr, flush=True)


@contextmanager
def opened(
    config: RunConfig, cache: Path, latency: Latency, inventory: Path | None = None, listen: Listener = _tell
) -> Iterator[Testbed]:
    """Yield the base network of ``config`` on this machine; base and single cuts are measured if they never were.

    Without weights it keeps its random ones: no layer's time depends on them.
    """
    inputs = load_inputs(config)
    with open_agent(load_inventory(inventory).device("local")) as agent, _kept(cache, config, agent.facts.cpu) as store:
        if latency == "measured" or not store.get(_CUTS):
            agent.hold()
        context = Context(
            config=config, store=store, boards=BoardPool.of(agent), data=inputs.data, example=inputs.example,
            format=require_fit(inputs, agent, listen), listen=listen, stopping=lambda: False,
            conditions=inputs.conditions,
        )  # fmt: skip
        if config.weights is None:
            store.set(BASE_WEIGHTS, store.put_blob(weights_bytes(inputs.model)))
        base = make_base(context, inputs.model)
        bench = Bench(BoardPool.of(agent), store, base.skeleton)
        step = channel_step(context, base.network, base.skeleton)
        whole = builder_of(context, base.network, search_space(base.network, context.example, step=step))
        space, costs = space_and_costs(context, base, whole, bench, {})
        builder = replace(whole, space=space)
        store.set(_CUTS, "measured")
        if latency == "predicted":
            agent.close()  # nothing is measured from here on: others may have the machine
        yield Testbed(context=context, base=base, builder=builder, bench=bench, costs=costs, latency=latency)


def config_of(args: argparse.Namespace) -> RunConfig:
    """Return the run that the arguments describe."""
    return RunConfig(
        data=args.data, model=args.model, weights=args.weights, criterion=args.criterion, threads=args.threads,
        evaluation=EvaluationConfig(reconstruction_samples=args.reconstruction_samples),
    )  # fmt: skip


def some(split: Split, images: int, seed: int) -> Split:
    """Return so many images of a split, drawn by ``seed``."""
    drawn = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:images]
    return Split(split.pool, split.indices[drawn], split.mean, split.std)


@contextmanager
def _kept(cache: Path, config: RunConfig, cpu: str) -> Iterator[Store]:
    """Open the store of this network's figures; other weights, data, evaluation or processor have another one."""
    weights = hashlib.sha256(config.weights.read_bytes()).hexdigest() if config.weights else f"seed {config.seed}"
    fixed: list[Any] = [config.model, weights, config.data, config.criterion, config.evaluation.model_dump(), cpu]
    fixed += [config.conditions] if config.conditions else []  # without, the name is as it always was
    folder = cache / f"{config.model}-{hashlib.sha256(json.dumps(fixed).encode()).hexdigest()[:12]}"
    there = Store.list(folder) if folder.exists() else []
    with Store.open(folder, "latest", write=True) if there else Store.create(folder, label="cache") as store:
        yield store
