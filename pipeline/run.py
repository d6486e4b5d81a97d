"""Composition root: builds what the config names, hands it to the loop, and sees a run through to its artifacts."""

from __future__ import annotations

import copy
import logging
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, fx, nn

from pipeline import codec, plugins
from pipeline.agent import Agent, open_agent
from pipeline.bench import Bench, cost_model, single_cuts
from pipeline.candidates import Builder
from pipeline.config import RunConfig
from pipeline.cost.accuracy import AccuracyModel
from pipeline.cost.tables import CostModel
from pipeline.errors import ConfigError, MeasureError, StoppedError, TargetError, nearest
from pipeline.events import DeviceNews, Listener, Note, Stage, Step, Tried
from pipeline.export.onnx import INPUT, export
from pipeline.export.skeleton import skeleton
from pipeline.finalists import Finals, choose, pick_finalists
from pipeline.loop import search
from pipeline.pruning.groups import search_space
from pipeline.pruning.measures import weigh
from pipeline.pruning.ranking import rank
from pipeline.pruning.recover import FineTuning, accuracy, fine_tune
from pipeline.pruning.tracing import trace
from pipeline.records import Artifact, Device, Figures, Measurement, SearchSpace, Trial
from pipeline.report.html import write_report
from pipeline.reward import Weights, ratios_of, reward, violation
from pipeline.search.planning import Planner, indices
from pipeline.search.strategy import Problem
from pipeline.store import Store
from pipeline.targets import Metric, Target
from pipeline.zoo import DataSet, default_model, load_data, load_model

_log = logging.getLogger(__name__)

EXAMPLES = 8
"""Real images with which networks are traced, checked and compared with their files."""
PLANNING_MARGIN = 0.02
"""Plans are made for targets this much tighter, so that noise does not push a good one over the limit."""
FAILURES_IN_A_ROW = 5
_BATCH = 256
_PACKAGES = ("torch", "torchvision", "torch-pruning", "onnx", "onnxruntime", "numpy", "scikit-learn", "paramiko")


@dataclass(frozen=True, kw_only=True)
class Context:
    """What every part of a run shares."""

    config: RunConfig
    store: Store
    agent: Agent
    data: DataSet
    example: Tensor
    listen: Listener
    stopping: Callable[[], bool]

    def stop_if_asked(self) -> None:
        """Raise StoppedError where the user asked to stop."""
        if self.stopping():
            raise StoppedError(f"stopped as asked; to go on: pipeline run --resume {self.store.id}")

    def step(self, done: int) -> None:
        """Say how far the stage has come, unless the user asked to stop."""
        self.stop_if_asked()
        self.listen(Step(done))


def execute(config: RunConfig, device: Device, store: Store, *, listen: Listener, stopping: Callable[[], bool]) -> None:
    """See a new or resumed run through: base, search, finalists, report; everything goes into ``store``.

    Raises:
        PipelineError: what is stored stands, and the run can be resumed.
    """
    start = time.monotonic()
    earlier = float(store.get("seconds") or 0.0)
    torch.manual_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    _check_plugins(config)
    listen(Stage(f"Load {config.data}"))
    data = load_data(config.data, seed=config.seed, image_size=config.image_size)
    example = next(data.train.batches(EXAMPLES))[0]
    model = _load_model(config, data, weights=None if store.get("base_weights") else config.weights)
    trace(copy.deepcopy(model), example)  # refuse what cannot be traced before anything is trained or connected
    try:
        listen(Stage(f"Connect to {device.name}"))
        with open_agent(device, on_event=_device_news(listen)) as agent:
            context = Context(
                config=config, store=store, agent=agent, data=data, example=example, listen=listen, stopping=stopping
            )
            _describe(context, device)
            _see_through(context, _base_model(context, model))
    finally:
        store.set("seconds", earlier + time.monotonic() - start)
    store.finish()
    write_report(store, store.path / "report.html")


def _see_through(context: Context, base: fx.GraphModule) -> None:
    config, store = context.config, context.store
    base_file = export(base, context.example, context.agent.limits)
    base_figures = _measured_base(context, base, base_file)
    limits = _limits(config.targets, base_figures)
    network, chosen = base, None
    for number in range(1, config.rounds + 1):
        network, chosen = _round(
            context, number, base, network, base_file, base_figures, _share(limits, number, config.rounds)
        )
    assert chosen is not None  # there is at least one round
    _judge_on_test(context, base, base_figures, network, chosen)
    store.set("chosen", chosen.id)


# ---------------------------------------------------------------- the base


def _load_model(config: RunConfig, data: DataSet, *, weights: Path | None) -> nn.Module:
    spec = config.model or default_model(data)
    return load_model(spec, classes=len(data.classes), channels=data.shape[0], weights=weights)


def _base_model(context: Context, model: nn.Module) -> fx.GraphModule:
    """Return the traced base model: with the user's weights, else trained here; kept in the store for a resume."""
    config, store = context.config, context.store
    known = store.get("base_weights")
    if known:
        model.load_state_dict(load_file(store.blob(known)))
    else:
        if config.weights is None:
            _train_base(context, model)
        store.set("base_weights", store.put_blob(save({k: v.contiguous() for k, v in model.state_dict().items()})))
    return trace(model, context.example)


def _train_base(context: Context, model: nn.Module) -> None:
    config, data = context.config, context.data
    told = config.base_training
    settings = FineTuning(
        epochs=told.epochs, learning_rate=told.learning_rate, teacher_mix=0.0, seed=config.seed, label_smoothing=0.05
    )
    context.listen(Stage("Train a base model (no weights given)", settings.steps(len(data.train))))

    def on_step(step: int, _: int, loss: float) -> None:
        context.stop_if_asked()
        context.listen(Step(step, f"loss {loss:.3f}"))

    fine_tune(model, data.train, settings, on_step=on_step)


def _measured_base(context: Context, base: fx.GraphModule, file: bytes) -> Figures:
    store = context.store
    if known := store.get("base"):
        return codec.load(Figures, known)
    context.listen(Stage("Measure the base model"))
    share = accuracy(base, context.data.search.batches(_BATCH, limit=context.config.evaluation.search_images))
    weight = weigh(base, context.example)
    bench = Bench(context.agent, store, skeleton(file))
    figures = Figures(
        search_accuracy=share, test_accuracy=None, parameters=weight.parameters, macs=weight.macs,
        size_bytes=len(file), measurement=bench.base(),
    )  # fmt: skip
    store.set("base", figures)
    context.listen(
        Note(f"base: {share:.1%} on {context.data.name}'s search split, {figures.measurement.p50_ms.value:.3g} ms, "
             f"{weight.parameters:,} parameters, {weight.macs / 1e6:.1f} M MACs")
    )  # fmt: skip
    return figures


def _limits(targets: tuple[Target, ...], base: Figures) -> dict[Metric, float]:
    """Return each target's limit as a share of the base model's figure; raise TargetError where none is measured."""
    power = base.measurement.power
    figures: dict[Metric, float | None] = {
        "latency": base.measurement.p50_ms.value,
        "power": power.mean_w.value if power else None,
        "energy": power.energy_total_mj.value if power else None,
        "size": float(base.size_bytes),
    }
    limits: dict[Metric, float] = {}
    for target in targets:
        figure = figures[target.metric]
        if figure is None:
            raise TargetError(
                f"target {target}: this device measures no power; give it a sensor (power: in inventory.yaml, "
                "`pipeline devices check` says what is missing) or leave the target out"
            )
        limits[target.metric] = target.share(figure)
    return limits


def _share(limits: Mapping[Metric, float], number: int, rounds: int) -> dict[Metric, float]:
    """Return the limits of one of several rounds: equal steps on a logarithmic scale; the last is the target."""
    return {metric: limit ** (number / rounds) if limit < 1 else limit for metric, limit in limits.items()}


# ---------------------------------------------------------------- one round


def _round(
    context: Context,
    number: int,
    base: fx.GraphModule,
    network: fx.GraphModule,
    base_file: bytes,
    base_figures: Figures,
    limits: Mapping[Metric, float],
) -> tuple[fx.GraphModule, Artifact]:
    """Prune ``network`` (the base, or the last round's winner) towards ``limits``; return winner and artifact."""
    config, store, agent = context.config, context.store, context.agent
    context.listen(Stage("Find what can be pruned"))
    space = search_space(network, context.example, step=agent.channel_step)
    if unknown := set(config.reward.layers) - {g.name for g in space.groups}:
        name = min(unknown)
        raise ConfigError(f"reward.layers: no group {name!r}{nearest(name, [g.name for g in space.groups])}")
    store.set("space", space)
    builder = Builder(
        base=network, space=space, data=context.data, settings=config.evaluation, limits=agent.limits,
        example=context.example,
        ranking=rank(
            network, space, config.criterion, context.example,
            context.data.train.batches(_BATCH, limit=config.evaluation.ranking_images), seed=config.seed,
        ),
    )  # fmt: skip
    bench = Bench(agent, store, skeleton(base_file), round=number)
    context.listen(Stage("Measure single cuts", len(single_cuts(space))))
    costs = cost_model(space, bench, builder, context.step)
    problem = _problem(context, space, costs, limits, base_figures)
    _require_reachable(problem, bench, builder, limits)
    trials = _search(context, number, problem, builder, bench, limits, base_figures)
    finalists = pick_finalists(trials, limits, config.recovery.finalists)
    if not finalists:
        raise TargetError(_nearest_miss(trials, limits))
    finals = Finals(
        builder=builder, bench=bench, agent=agent, store=store, teacher=base, settings=config.recovery,
        seed=config.seed, round=number, listen=context.listen, stop_if_asked=context.stop_if_asked,
    )  # fmt: skip
    artifact = choose(finals, finalists)
    return finals.network(artifact), artifact


def _problem(
    context: Context, space: SearchSpace, costs: CostModel, limits: Mapping[Metric, float], base: Figures
) -> Problem:
    config, statistics = context.config, context.data.input_statistics
    return Problem(
        space=space,
        costs=costs,
        limits={metric: limit * (1 - PLANNING_MARGIN) for metric, limit in limits.items()},
        weights=_weights(config, space),
        base_accuracy=base.search_accuracy,
        images=min(len(context.data.search), config.evaluation.search_images),
        input_mean=statistics.mean,
        input_variance=statistics.variance,
        temperature_c=base.measurement.temperature_c,
        criterion=config.criterion,
        trials=config.trials,
        seed=config.seed,
        dqn=config.dqn,
    )


def _weights(config: RunConfig, space: SearchSpace) -> Weights:
    told = config.reward

    def each(name: str) -> list[float]:
        own = [getattr(told.layers.get(g.name), name, None) for g in space.groups]
        return [getattr(told, name) if weight is None else weight for weight in own]

    return Weights(
        alpha=each("alpha"), beta=each("beta"), gamma=each("gamma"), lambda_=each("lambda_"),
        latency=told.latency, violation=told.violation,
    )  # fmt: skip


def _require_reachable(problem: Problem, bench: Bench, builder: Builder, limits: Mapping[Metric, float]) -> None:
    """Raise TargetError, as measured, where even the deepest legal cut does not meet the targets."""
    planner = Planner(problem, AccuracyModel(problem.base_accuracy, problem.images))
    levels = planner.blank(1)
    for step in range(planner.groups):
        levels[:, step] = planner.deepest(levels, step)
    if planner.excess(levels)[0] == 0:
        return
    plan = planner.plan(levels[0])
    built = builder.build(plan)
    measured, _ = bench.measure(built)
    for metric, limit in limits.items():
        figure = {
            "latency": measured.ratio.value if measured.ratio else None,
            "power": measured.power_ratio,
            "energy": measured.energy_ratio,
            "size": built.candidate.size_bytes / builder_size(bench),
        }[metric]
        if figure is not None and figure > limit:
            raise TargetError(
                f"target {metric}={limit:.3g}x cannot be met: cut as deep as this network allows, it still has "
                f"{figure:.3g}x of the base model's {metric} on {bench.agent.device.name}; "
                f"choose a target above that, or a smaller network"
            )


def builder_size(bench: Bench) -> float:
    """Return the base model file's bytes."""
    base = codec.load(Figures, bench.store.get("base"))
    return float(base.size_bytes)


def _search(
    context: Context,
    number: int,
    problem: Problem,
    builder: Builder,
    bench: Bench,
    limits: Mapping[Metric, float],
    base: Figures,
) -> list[Trial]:
    config, store = context.config, context.store
    strategy = plugins.load("pipeline.search.strategies", config.strategy).create(problem)
    known = {t.index: t for t in store.trials() if t.round == number}
    first = (number - 1) * config.trials
    context.listen(
        Stage(f"Search with {config.strategy}" + (f", round {number}" if config.rounds > 1 else ""), config.trials)
    )
    found: list[Trial] = []
    failures = 0
    for trial in search(
        strategy,
        builder.build,
        bench.measure,
        lambda trial: _judge(replace(trial, round=number), problem, limits, base),
        trials=config.trials,
        first=first,
        known=known,
        lookahead=0 if context.agent.device.ssh is None else 1,
        stopping=context.stopping,
    ):
        if trial.index not in known:
            store.append(replace(trial, round=number))
        if trial.measurement is not None:
            problem.costs.learn(indices(trial.plan), _measured_shares(trial.measurement))
        found.append(trial)
        failures = failures + 1 if trial.failure else 0
        context.listen(Tried(trial, replayed=trial.index in known))
        if failures == FAILURES_IN_A_ROW:
            raise MeasureError(f"{failures} candidates failed in a row, the last with: {trial.failure}")
    context.stop_if_asked()
    return found


def _measured_shares(measurement: Measurement) -> dict[Metric, float]:
    shares: dict[Metric, float | None] = {
        "latency": measurement.ratio.value if measurement.ratio else None,
        "power": measurement.power_ratio,
        "energy": measurement.energy_ratio,
    }
    return {metric: share for metric, share in shares.items() if share is not None}


def _judge(trial: Trial, problem: Problem, limits: Mapping[Metric, float], base: Figures) -> Trial:
    """Return the trial with its reward, terms and whether it meets every target as measured."""
    assert trial.candidate is not None  # the loop judges only what was built and measured
    assert trial.measurement is not None
    size = trial.candidate.size_bytes / base.size_bytes
    ratios = ratios_of(trial.candidate.accuracy, base.search_accuracy, size, trial.measurement)
    value, terms = reward(ratios, problem.space, trial.plan.levels, problem.weights, limits)
    return replace(trial, reward=value, terms=terms, feasible=violation(ratios, limits) == 0)


def _nearest_miss(trials: list[Trial], limits: Mapping[Metric, float]) -> str:
    wanted = ", ".join(f"{metric}={limit:.3g}x" for metric, limit in limits.items())
    ratios = [t.measurement.ratio.value for t in trials if t.measurement and t.measurement.ratio]
    nearest_ratio = f"; the fastest ran at {min(ratios):.3g}x of the base model's latency" if ratios else ""
    return f"no candidate met {wanted} as measured{nearest_ratio}; give it more --trials or a looser target"


# ---------------------------------------------------------------- the end, and what the run knows of itself


def _judge_on_test(
    context: Context, base: fx.GraphModule, base_figures: Figures, network: fx.GraphModule, chosen: Artifact
) -> None:
    """Read the test split, this once, for the base and for the chosen network."""
    store, test = context.store, context.data.test
    if base_figures.test_accuracy is not None and chosen.chosen:
        return
    context.listen(Stage("Read the test split, once"))
    store.set("base", replace(base_figures, test_accuracy=accuracy(base, test.batches(_BATCH))))
    after = replace(chosen.after, test_accuracy=accuracy(network, test.batches(_BATCH)))
    store.add_artifact(replace(chosen, after=after, chosen=True))


def _check_plugins(config: RunConfig) -> None:
    plugins.load("pipeline.search.strategies", config.strategy)
    plugins.load("pipeline.pruning.criteria", config.criterion)


def _device_news(listen: Listener) -> Callable[[Mapping[str, object]], None]:
    def on_event(event: Mapping[str, object]) -> None:
        temperature = event.get("temperature_c")
        listen(DeviceNews(str(event.get("stage", "")), temperature if isinstance(temperature, float) else None))

    return on_event


def _describe(context: Context, device: Device) -> None:
    """Store what the run is made of: device, facts, input, seed, versions, git state."""
    store, data, agent = context.store, context.data, context.agent
    store.set(
        "device", {"name": device.name, "kind": device.kind, "power": agent.power_backend, "step": agent.channel_step}
    )
    store.set("facts", agent.facts)
    store.set("classes", list(data.classes))
    store.set("input", {"name": INPUT, "shape": list(data.shape), "mean": list(data.mean), "std": list(data.std)})
    store.set("seed", context.config.seed)
    store.set("versions", {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}})
    store.set("git", _git_state())


def _git_state() -> str | None:
    """Return the commit of the folder that the run was started in, ``-dirty`` with changes; None outside a checkout."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=5,
            cwd=Path.cwd(),
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None if described.returncode == 0 else None
