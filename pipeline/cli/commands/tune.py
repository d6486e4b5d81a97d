"""`pipeline tune`: what is typed after it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from pipeline.cli.options import (
    DEFAULT_RUNS,
    Config,
    Criterion,
    Data,
    Devices,
    Epochs,
    Head,
    Inventory,
    Json,
    Model,
    Rounds,
    Runs,
    Seed,
    Strategy,
    Targets,
    TaskName,
    Trials,
    Weights,
    WeightsKey,
    Workers,
)


def tune(
    search: Annotated[
        list[str] | None,
        typer.Option(
            "--search",
            metavar="PATH=VALUES",
            help="A numeric setting of run.yaml: reward.alpha=0.5:2, reward.gamma=0,0.02,0.1 or "
            "strategy_options.learning_rate=1e-4:1e-2:log; a range may end in :POINTS; repeatable.",
        ),
    ] = None,
    method: Annotated[
        Literal["grid", "optuna"],
        typer.Option("--method", help="grid: every combination; optuna: by what earlier runs have shown."),
    ] = "grid",
    objective: Annotated[
        Literal["accuracy", "latency", "energy", "size"],
        typer.Option(
            "--objective",
            help="What is best among runs that meet the targets: accuracy on the validation split, or a figure over "
            "the base model's.",
        ),
    ] = "accuracy",
    runs_budget: Annotated[
        int | None, typer.Option("--runs-budget", min=1, metavar="N", help="Runs at most; optuna: 20 unless given.")
    ] = None,
    device: Devices = None,
    config: Config = None,
    model: Model = None,
    weights: Weights = None,
    weights_key: WeightsKey = None,
    head: Head = None,
    data: Data = None,
    task: TaskName = None,
    target: Targets = None,
    trials: Trials = None,
    strategy: Strategy = None,
    criterion: Criterion = None,
    rounds: Rounds = None,
    epochs: Epochs = None,
    seed: Seed = None,
    workers: Workers = None,
    inventory: Inventory = None,
    runs: Runs = DEFAULT_RUNS,
    json: Json = False,
) -> None:
    """Search the reward's weights, or other settings, by whole runs; typed again, it goes on where it was.

    Runs are compared by the validation split, which none of them trains on; the best alone reads the test split.
    """
    from pipeline.cli.commands.run import RunArguments  # pydantic takes its time
    from pipeline.cli.commands.tune_session import Search, tune_and_show

    options: dict[str, Any] = {
        "model": model, "weights": weights, "weights_key": weights_key, "head": head, "data": data,
        "task": task, "target": tuple(target or ()), "trials": trials, "strategy": strategy, "criterion": criterion,
        "rounds": rounds, "seed": seed,
    }  # fmt: skip
    arguments = RunArguments(
        devices=tuple(device or ()), config=config, options=options, epochs=epochs, resume=None, inventory=inventory,
        runs=runs, workers=workers,
    )  # fmt: skip
    wanted = Search(texts=tuple(search or ()), method=method, objective=objective, budget=runs_budget)
    tune_and_show(arguments, wanted, json=json)
