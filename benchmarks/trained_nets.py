"""Networks that the pipeline itself trains and prunes: accuracy, parameters, MACs, time an image, base and pruned.

    python benchmarks/trained_nets.py --data cifar10:DIR [--base-epochs 3 --epochs 1 --trials 24]      minutes to hours
    python benchmarks/trained_nets.py --data cifar10:DIR --base-epochs 200 --epochs 100 --trials 120   with a GPU

Each network is one `pipeline run` without weights: a base model is trained, searched, pruned to the target, fine-tuned
and verified. A stopped benchmark goes on where it was; runs that are finished are only shown. Time an image is measured
anew for the table: the base and the pruned file take turns on this machine, one thread, one image at a time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file

from pipeline.config import RunConfig
from pipeline.data import DataSet, load_data
from pipeline.devices.agent_client import Agent, open_agent
from pipeline.devices.inventory.load import load_inventory
from pipeline.errors import RunNotFoundError
from pipeline.export.onnx.exporter import export
from pipeline.models import load_model
from pipeline.pruning.trace import trace
from pipeline.records import Artifact, Interval, Measurement
from pipeline.store import Store
from pipeline.store.facts import BASE, BASE_WEIGHTS, CONFIG, SECONDS

MODELS = ("resnet20", "resnet56", "cifar_vgg16_bn", "cifar_densenet40", "cifar_mobilenet_v2")
COLUMNS = (
    ("test accuracy", 16),
    ("parameters, M", 16),
    ("M MACs", 16),
    ("ms an image", 18),
    ("time", 24),
    ("run, s", 8),
)


def main() -> None:
    args = _arguments()
    for model in args.models:
        _finish(model, args)
    data = load_data(args.data, seed=args.seed)
    print(f"{data.name}: bases trained for {args.base_epochs:g} epochs, the pruned fine-tuned for {args.epochs:g};")
    print(f"target {args.target}, {args.trials} trials with dqn; a cell is base → pruned\n")
    print(f"{'':<20}" + "".join(f"{name:>{width}}" for name, width in COLUMNS), flush=True)
    with open_agent(load_inventory(None).device("local")) as agent:
        for model in args.models:
            cells = _cells(Store.open(args.runs / model, "latest"), data, agent)
            print(f"{model:<20}" + "".join(f"{c:>{w}}" for c, (_, w) in zip(cells, COLUMNS, strict=True)), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="as for pipeline run")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--target", default="latency=0.6x")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--base-epochs", type=float, default=3.0)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--threads", type=int, help="of torch; default: one a core")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("trained-nets"), help="a folder for each model's run")
    return parser.parse_args()


def _finish(model: str, args: argparse.Namespace) -> None:
    """Start a model's run, or go on with it; nothing where it is finished."""
    runs = args.runs / model
    try:
        with Store.open(runs, "latest") as store:
            status = store.status
        if status == "finished":
            return
        arguments = ["--resume", "latest"]
    except RunNotFoundError:
        arguments = ["--config", str(_config(model, args))]
    command = [sys.executable, "-m", "pipeline", "run", *arguments, "--runs", str(runs)]
    subprocess.run(command, check=True)


def _config(model: str, args: argparse.Namespace) -> Path:
    """Write the run's settings, as YAML's subset JSON."""
    config = RunConfig.model_validate(
        {
            "model": model, "data": args.data, "target": args.target, "trials": args.trials, "seed": args.seed,
            "threads": args.threads, "base_training": {"epochs": args.base_epochs},
            "fine_tuning": {"epochs": args.epochs},
        }
    )  # fmt: skip
    path: Path = args.runs / f"{model}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(config.model_dump_json(by_alias=True, exclude_unset=True))
    return path


def _cells(store: Store, data: DataSet, agent: Agent) -> Sequence[str]:
    base = store.required(BASE)
    chosen = next(artifact for artifact in store.artifacts() if artifact.chosen)
    pruned = chosen.after
    measured = _side_by_side(store, chosen, data, agent)
    assert measured.ratio is not None
    assert measured.reference_p50_ms is not None
    return (
        f"{base.test_accuracy:.2%} → {pruned.test_accuracy:.2%}",
        f"{base.parameters / 1e6:.3g} → {pruned.parameters / 1e6:.3g}",
        f"{base.macs / 1e6:.3g} → {pruned.macs / 1e6:.3g}",
        f"{measured.reference_p50_ms:.3g} → {measured.p50_ms.value:.3g}",
        _with_interval(measured.ratio),
        f"{store.required(SECONDS):.0f}",
    )


def _side_by_side(store: Store, chosen: Artifact, data: DataSet, agent: Agent) -> Measurement:
    """Return the pruned file's figures, measured in turns with the base's."""
    config = RunConfig.model_validate(store.get(CONFIG))
    model = load_model(str(config.model), classes=len(data.classes), channels=data.shape[0], weights=None)
    model.load_state_dict(load_file(store.blob(store.required(BASE_WEIGHTS))))
    example = next(data.train.batches(8))[0]
    base = export(trace(model, example, classes=len(data.classes)), example, agent.onnx_support)
    pruned = store.blob(chosen.files["model.onnx"]).read_bytes()
    settings = replace(agent.device.measure, min_s=3.0)
    return agent.measure(pruned, "onnx", reference=(base, "onnx"), settings=settings)


def _with_interval(ratio: Interval) -> str:
    return f"{ratio.value:.3f}x [{ratio.low:.3f}, {ratio.high:.3f}]"


if __name__ == "__main__":
    main()
