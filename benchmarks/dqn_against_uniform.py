"""The DQN's net beside uniform L1 pruning at the same measured latency, both fine-tuned alike, in one table.

    python benchmarks/dqn_against_uniform.py --data cifar10:DIR --model resnet20 --weights FILE --target latency=0.5x

The DQN's side is one `pipeline run`. The uniform side may keep any number of channels in every group (all the same
share, sixteenths), as generously as the staircase of the device allows: the widest net whose measured latency, paired
with the base model, is no more than one percent above the target, or above the DQN's net where that is slower.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from torch import fx

from pipeline import codec
from pipeline.agent import Agent, open_agent
from pipeline.config import RunConfig
from pipeline.export.onnx import export
from pipeline.export.skeleton import skeleton
from pipeline.inventory import load_inventory
from pipeline.pruning.coupling import coupling
from pipeline.pruning.groups import search_space
from pipeline.pruning.measures import weigh
from pipeline.pruning.prune import cut
from pipeline.pruning.ranking import rank
from pipeline.pruning.recover import FineTuning, accuracy, fine_tune, reestimate_batch_norm
from pipeline.pruning.tracing import trace
from pipeline.records import Artifact, Figures, Measurement
from pipeline.store import Store
from pipeline.zoo import DataSet, load_data, load_model

SLACK = 1.01
SIXTEENTHS = range(15, 0, -1)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    measurement: Measurement | None
    parameters: int
    macs: int
    before: float
    after: float | None


def main() -> None:
    told = _arguments()
    start = time.monotonic()
    run = told.run or _run(told)
    store = Store.open(told.runs, run)
    seconds = store.get("seconds") or time.monotonic() - start
    config = RunConfig.model_validate(store.get("config"))
    data = load_data(config.data, seed=config.seed)
    with open_agent(load_inventory(None).device("local")) as agent:
        rows = _rows(store, config, data, agent, told.weights)
    wanted = " ".join(config.target)
    print(f"{config.model} on {data.name}, target {wanted}, {config.trials} trials, whole run {seconds:.0f} s")
    print(f"fine-tuning of both: {config.recovery.finalist_epochs} + {config.recovery.epochs} epochs, teacher = base\n")
    print(f"{'':<28}{'latency':>22}{'parameters':>12}{'M MACs':>9}{'test before':>13}{'test after':>12}")
    for row in rows:
        ratio = row.measurement.ratio if row.measurement else None
        shown = f"{ratio.value:.3f}x [{ratio.low:.3f}, {ratio.high:.3f}]" if ratio else "1"
        after = "" if row.after is None else f"{row.after:.2%}"
        print(f"{row.name:<28}{shown:>22}{row.parameters:>12,}{row.macs / 1e6:>9.1f}{row.before:>13.2%}{after:>12}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="as for pipeline run")
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--target", default="latency=0.5x")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--run", help="compare with this finished run instead of starting one")
    return parser.parse_args()


def _run(told: argparse.Namespace) -> str:
    options = {
        name: getattr(told, name) for name in ("data", "model", "weights", "target", "trials", "epochs", "seed", "runs")
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    subprocess.run([sys.executable, "-m", "pipeline", "run", *arguments], check=True)
    return "latest"


def _rows(store: Store, config: RunConfig, data: DataSet, agent: Agent, weights: Path) -> list[Row]:
    base_figures = codec.load(Figures, store.get("base"))
    chosen = next(a for a in store.artifacts() if a.chosen)
    example = next(data.train.batches(8))[0]
    model = load_model(str(config.model), classes=len(data.classes), channels=data.shape[0], weights=weights)
    base = trace(model, example)
    probe = skeleton(export(base, example, agent.limits))
    theirs = _at_length(agent, store.blob(chosen.files["model.onnx"]).read_bytes(), probe)
    assert theirs.ratio is not None
    allowed = max([theirs.ratio.value, *(t.limit for t in config.targets if t.metric == "latency" and t.relative)])
    name, uniform, ours = _widest(base, data, agent, probe, allowed * SLACK)
    before = accuracy(uniform, data.test.batches(256))
    _tune_alike(uniform, base, data, config)
    weight = weigh(uniform, example)
    return [
        Row("base", None, base_figures.parameters, base_figures.macs, base_figures.test_accuracy or 0.0, None),
        Row(name, ours, weight.parameters, weight.macs, before, accuracy(uniform, data.test.batches(256))),
        Row(
            f"{config.strategy}, trial {chosen.trial}", theirs, chosen.after.parameters, chosen.after.macs,
            _before(base, data, agent, config, chosen), chosen.after.test_accuracy or 0.0,
        ),
    ]  # fmt: skip


def _at_length(agent: Agent, model: bytes, base_probe: bytes) -> Measurement:
    settings = replace(agent.device.measure, min_s=1.5)
    return agent.measure(model, "onnx", reference=(base_probe, "skeleton"), settings=settings)


def _widest(
    base: fx.GraphModule, data: DataSet, agent: Agent, probe: bytes, limit: float
) -> tuple[str, fx.GraphModule, Measurement]:
    """Return the widest uniform net that is fast enough as measured, batch norm re-estimated."""
    example = next(data.train.batches(8))[0]
    space = search_space(base, example, step=1)
    ranking = rank(base, space, "l1", coupling(base, example).groups, [])
    for sixteenths in SIXTEENTHS:
        kept = {g.name: max(1, g.channels * sixteenths // 16) for g in space.groups}
        net = cut(base, space, kept, ranking, example)
        measured = _at_length(agent, export(net, example, agent.limits), probe)
        assert measured.ratio is not None
        print(f"  uniform L1, {sixteenths}/16 kept: {measured.ratio.value:.3f}x", file=sys.stderr)
        if measured.ratio.value <= limit:
            reestimate_batch_norm(net, data.train.batches(256, limit=256))
            return f"uniform L1, {sixteenths}/16 kept", net, measured
    raise SystemExit("no uniform net is fast enough")


def _tune_alike(net: fx.GraphModule, base: fx.GraphModule, data: DataSet, config: RunConfig) -> None:
    """Fine-tune as a run does: briefly on the training split, then on everything but the test split."""
    told = config.recovery
    shared = FineTuning(
        batch_size=told.batch_size, learning_rate=told.learning_rate, teacher_mix=told.teacher_mix,
        temperature=told.temperature, seed=config.seed,
    )  # fmt: skip
    brief = replace(shared, epochs=told.finalist_epochs, min_steps=told.min_steps // 2)
    full = replace(shared, epochs=told.epochs, min_steps=told.min_steps)
    fine_tune(net, data.train, brief, teacher=base)
    fine_tune(net, data.everything_but_test(), full, teacher=base)


def _before(base: fx.GraphModule, data: DataSet, agent: Agent, config: RunConfig, chosen: Artifact) -> float:
    """Return the chosen plan's test accuracy before any fine-tuning."""
    example = next(data.train.batches(8))[0]
    space = search_space(base, example, step=agent.channel_step)
    kept = dict(zip((g.name for g in space.groups), space.kept(chosen.plan.levels), strict=True))
    net = cut(
        base,
        space,
        kept,
        rank(base, space, config.criterion, coupling(base, example).groups, data.train.batches(256, limit=512)),
        example,
    )
    reestimate_batch_norm(net, data.train.batches(256, limit=config.evaluation.batch_norm_images))
    return accuracy(net, data.test.batches(256))


if __name__ == "__main__":
    main()
