"""Options that more than one verb takes, and how every verb ends when something expected goes wrong."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import ConfigError
from pipeline.store.place import RunsRoot, runs_root

_RUNS_VARIABLE = "PIPELINE_RUNS"

Inventory = Annotated[
    Path | None,
    typer.Option(
        "--inventory",
        metavar="FILE",
        help="Registered devices; default: inventory.yaml here, else the user's configuration folder.",
    ),
]
Runs = Annotated[
    RunsRoot,
    typer.Option(
        "--runs",
        metavar="DIR|URL",
        envvar=_RUNS_VARIABLE,
        parser=runs_root,
        help="Folder that holds the runs, or the database that hosts share: postgresql://HOST/DATABASE?blobs=PLACE.",
        show_default=True,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script instead of tables.")]
DEFAULT_FOLDER = Path("runs")
DEFAULT_RUNS: RunsRoot = DEFAULT_FOLDER


def runs_option(runs: RunsRoot) -> str:
    """Return the option without which the next command would not find the runs."""
    if runs == DEFAULT_RUNS or (not isinstance(runs, Path) and runs == _from_environment()):
        return ""
    return f" --runs {shlex.quote(str(runs))}"


def _from_environment() -> RunsRoot | None:
    try:
        return runs_root(os.environ.get(_RUNS_VARIABLE, ""))
    except ConfigError:  # which --runs has beaten
        return None


# ---------------------------------------------------------------- what is run; absent: as run.yaml says, or the default

Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device", metavar="NAME", help="A registered device, or group:NAME; default: local; repeatable: side by side."
    ),
]
OverBoards = Annotated[
    str | None,
    typer.Option(
        "--over-boards", metavar="mean|worst|q90", help="Of several boards: whose latency has to meet the target."
    ),
]
Config = Annotated[Path | None, typer.Option("--config", metavar="run.yaml", help="Settings; options beat them.")]
Model = Annotated[
    str | None, typer.Option("--model", help="Name, package.module:factory, file.py:factory or net.onnx.")
]
Weights = Annotated[
    Path | None, typer.Option("--weights", help="State dict: .pt, .pth, .pth.tar, .ckpt, .th or .safetensors.")
]
WeightsKey = Annotated[
    str | None,
    typer.Option("--weights-key", metavar="KEY", help="Which of several sets of weights in that file: model_ema."),
]
Head = Annotated[
    str | None, typer.Option("--head", metavar="new", help="Weights of other classes: train a new last layer.")
]
Data = Annotated[
    str | None,
    typer.Option("--data", help="digits, cifar10:DIR, imagefolder:DIR, csv:FILE, dataset:file.py:FACTORY, …"),
]
Conditions = Annotated[
    list[str] | None,
    typer.Option(
        "--condition",
        metavar="CONDITION",
        help="clean, fog:3, night:2, …: how images look; repeatable, each gets its plan. `pipeline data conditions`",
    ),
]
TaskName = Annotated[
    str | None,
    typer.Option(
        "--task", metavar="TASK", help="classification, segmentation, regression, multi-label, …, or file.py:TASK."
    ),
]
Targets = Annotated[
    list[str] | None,
    typer.Option("--target", help="latency=0.5x, latency=20ms, energy=…, power=…, size=…, density=…; repeatable."),
]
Trials = Annotated[int | None, typer.Option("--trials", help="Candidates to evaluate and measure.")]
Strategy = Annotated[
    str | None,
    typer.Option("--strategy", help="dqn, hybrid, surrogate, knapsack, evolution, netadapt, purl, random, uniform, …"),
]
Mode = Annotated[
    str | None,
    typer.Option(
        "--mode",
        metavar="MODE",
        help="Of dqn: imagined learns mostly from episodes simulated on models, direct from measured ones alone.",
    ),
]
Criterion = Annotated[
    str | None,
    typer.Option("--criterion", help="l1, l2, taylor, bn_scale, fpgm, feature_map, mean_activation, random."),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="PRECISION",
        help="auto, float32, int8, fp16 (TensorRT); auto: INT8 or FP16 where the device is faster by it.",
    ),
]
Rounds = Annotated[int | None, typer.Option("--rounds", help="Prune and fine-tune in turns.")]
Epochs = Annotated[
    str | None,
    typer.Option(
        "--epochs",
        metavar="PASSES",
        help="Training of the chosen one, passes over the data; auto: until it stops helping.",
    ),
]
Budget = Annotated[
    str | None, typer.Option("--budget", metavar="TIME", help="At most for training the chosen one: 30m, 2h.")
]
WarmStart = Annotated[
    str | None,
    typer.Option("--warm-start", metavar="RUN", help="A run whose learnt policy the DQN begins with."),
]
Workers = Annotated[
    str | None,
    typer.Option(
        "--workers",
        metavar="N|ray|ray://HOST",
        help="Build candidates and train finalists in N processes, or on a Ray cluster; same plans, same weights.",
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Same seed, same plans.")]
