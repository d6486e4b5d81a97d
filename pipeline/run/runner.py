"""Composition root: builds what the config names and runs it to its artifacts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from statistics import fmean

import torch
from torch import fx

from pipeline.config import RunConfig
from pipeline.data import Splits
from pipeline.devices.agent_client import Agent
from pipeline.devices.agent_plugins import used_by
from pipeline.devices.board_pool import BoardPool, open_boards
from pipeline.devices.connection import Record
from pipeline.evaluation.board_readings import BoardReadings
from pipeline.evaluation.candidate_builder import score_as_deployed
from pipeline.evaluation.file_accuracy import file_score
from pipeline.events import DeviceTelemetry, Listener, Note, Stage, Waiting
from pipeline.export.format import Format
from pipeline.export.format_plugin import model_format
from pipeline.export.quantization.open_int8 import INT8_FORMATS
from pipeline.export.signature import signature_of
from pipeline.records import Artifact, Device
from pipeline.report.html import write_report
from pipeline.run.base_model import Base, make_base
from pipeline.run.context import Context
from pipeline.run.decision_kind import Circumstances
from pipeline.run.decisions import judge_on_test, require_possible, with_decisions
from pipeline.run.inputs import Inputs, load_inputs, require_fit
from pipeline.run.origin import remember_origin
from pipeline.run.provenance import store_provenance
from pipeline.run.round import Winner, limits_of_round, prune_once
from pipeline.run.sample_input import write_sample
from pipeline.run.splitting import store_splits
from pipeline.store import Store
from pipeline.store.facts import BASE, CHOSEN, MODES, SECONDS, TUNING
from pipeline.training.accelerator import open_accelerator
from pipeline.training.score import score
from pipeline.workers.executor import Executor, InProcess
from pipeline.workers.open import opened


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Inputs that are known to be good, and the boards that are known to suit them."""

    inputs: Inputs
    boards: BoardPool
    format: Format
    workers: Executor = field(default_factory=InProcess)

    @property
    def agent(self) -> Agent:
        """The board, or the one that speaks for all."""
        return self.boards.agent

    def context(self, store: Store, *, listen: Listener, stopping: Callable[[], bool]) -> Context:
        """Return what every part of a run in this store shares."""
        return Context(
            config=self.inputs.config, store=store, boards=self.boards, data=self.inputs.data,
            example=self.inputs.example, format=self.format, listen=listen, stopping=stopping, workers=self.workers,
            conditions=self.inputs.conditions,
        )  # fmt: skip


@contextmanager
def prepared(
    config: RunConfig,
    device: Device,
    *,
    listen: Listener,
    weights_known: bool = False,
    splits: Splits | None = None,
    record: Record | None = None,
) -> Iterator[Prepared]:
    """Load and check everything that the run needs; the device is connected until the block ends.

    Nothing is written before this has succeeded, so a mistake in the input leaves nothing behind.

    Raises:
        UserError: something brought does not fit.
        DeviceError: the device cannot be used.
    """
    listen(Stage(f"Load {config.data}"))
    inputs = load_inputs(config, weights_known=weights_known, splits=splits, listen=listen)
    with ExitStack() as stack:
        workers = stack.enter_context(_workers(config, listen))
        listen(Stage(f"Connect to {device.name}"))
        boards = stack.enter_context(
            open_boards(
                device, over=config.over_boards, on_event=_telemetry_listener(listen), record=record,
                tell=lambda sentence: listen(Note(sentence)),
            )
        )  # fmt: skip
        agent = boards.agent
        if agent.runtime_choice is not None:
            listen(Note(agent.runtime_choice.why))
        format = require_fit(inputs, agent, listen)
        require_possible(Circumstances(inputs.config, agent, format, inputs.data.task))
        boards.hold()
        yield Prepared(inputs=inputs, boards=boards, format=format, workers=workers)


def execute(ready: Prepared, store: Store, *, listen: Listener, stopping: Callable[[], bool]) -> None:
    """See a new or resumed run through: base, rounds, test, report; everything goes into ``store``.

    A run that is one of a tuning's leaves the test split alone, until it is asked for in the fact ``tuning``.

    Raises:
        PipelineError: what is stored stands, and the run can be resumed.
    """
    context = ready.context(store, listen=listen, stopping=stopping)
    with _timed(store), _fleet_kept(context):
        context.stop_if_requested()
        store_provenance(context, signature_of(ready.inputs.network))
        device = context.agent.device
        own = used_by(device, context.agent.power_backend)
        remember_origin(store, context.config, format=device.format, plugins=own)
        store_splits(store, context.data)
        _note_modes(context)
        base = make_base(context, ready.inputs.model)
        context = with_decisions(context, base)
        winners = _all_rounds(context, base)
        tuning = store.get(TUNING)
        chosen = [winner for _, winner in winners]
        if tuning is None or tuning["judged"]:
            chosen = _evaluate_on_test(context, base, winners)
        for artifact in chosen:
            store.add_artifact(replace(artifact, chosen=True))
        store.set(CHOSEN, chosen[0].id)
    store.finish()
    write_sample(context.data, store.path)
    write_report(store, store.path / "report.html")


def _all_rounds(context: Context, base: Base) -> list[Winner]:
    """Return the winner of the last round; of data under several conditions, for which there is one round, of each."""
    rounds = context.config.rounds
    limits = base.limits(context.config.targets)
    winners = prune_once(context, 1, base, base.network, limits_of_round(limits, 1, rounds))
    for number in range(2, rounds + 1):
        winners = prune_once(context, number, base, winners[0][0], limits_of_round(limits, number, rounds))
    return winners


def _evaluate_on_test(context: Context, base: Base, winners: Sequence[Winner]) -> list[Artifact]:
    """Read the test split, this once, for the base and for the winners; return the winners with their figures."""
    context.listen(Stage("Read the test split, once"))
    store, views = context.store, context.of_each_condition()
    under = {one.condition: score(base.network, one.data.test, one.data.task) for one in views}
    for condition in context.conditions:
        figures = base.under(store, condition).figures
        store.set(BASE.of(condition), replace(figures, test_accuracy=under[condition]))
    store.set(BASE, replace(base.figures, test_accuracy=fmean(under.values())))
    judged = [_judged(views, network, winner) for network, winner in winners]
    judge_on_test(context, base)
    return judged


def _judged(views: Sequence[Context], network: fx.GraphModule, winner: Artifact) -> Artifact:
    """Return a winner with its score on the test split under each condition, and that under its own as its figure."""
    under = {one.condition: _score_of(one, network, winner) for one in views}
    judged = replace(winner, after=replace(winner.after, test_accuracy=under[winner.condition]))
    if winner.condition:
        judged = replace(judged, accuracy_under=under)
    if judged.float_parent is None:
        return judged
    data = next(one.data for one in views if one.condition == winner.condition)
    return replace(
        judged, float_parent=replace(judged.float_parent, test_accuracy=score(network, data.test, data.task))
    )


def _score_of(context: Context, network: fx.GraphModule, winner: Artifact) -> float:
    """Return the winner's score on the test split: of INT8, that of the very file that is handed over."""
    test, task = context.data.test, context.data.task
    if winner.float_parent is None or not isinstance(context.format, INT8_FORMATS):
        return score_as_deployed(network, context.format, test, task)
    file = winner.files[model_format(context.agent.device.format).file]
    return file_score(context.store.blob(file).read_bytes(), test, task)


def _note_modes(context: Context) -> None:
    """Store the power modes of the run, and say which of those wanted a board is not in."""
    held = context.boards.hold()
    context.store.set(MODES, held[context.agent.device.name])
    for name, modes in held.items():
        on = f" on {name}" if context.boards.several else ""
        for mode, why in modes.get("refused", {}).items():
            context.listen(Note(f"power mode {mode} not set{on}: {why}"))


@contextmanager
def _fleet_kept(context: Context) -> Iterator[None]:
    """Store which boards measure and by what they differ, however the work ends."""
    try:
        yield
    finally:
        if context.boards.several:
            context.boards.settle()
            BoardReadings(context.boards, context.store).remember()


def _workers(config: RunConfig, listen: Listener) -> AbstractContextManager[Executor]:
    """Return what builds and fine-tunes candidates, to be opened."""
    gpus = torch.cuda.device_count() if open_accelerator(config.accelerator).device.type == "cuda" else 0
    return opened(
        config.workers, threads=config.threads, available=torch.get_num_threads(), gpus=gpus, listen=listen
    )  # fmt: skip


@contextmanager
def _timed(store: Store) -> Iterator[None]:
    """Add the seconds of work, however it ends, to those of earlier parts of the run."""
    start, earlier = time.monotonic(), store.get(SECONDS) or 0.0
    try:
        yield
    finally:
        store.set(SECONDS, earlier + time.monotonic() - start)


def _telemetry_listener(listen: Listener) -> Callable[[Mapping[str, object]], None]:
    def on_event(event: Mapping[str, object]) -> None:
        if event.get("event") == "waiting":
            holder = event.get("holder")
            listen(Waiting(str(holder.get("words")) if isinstance(holder, Mapping) else "another user"))
            return
        temperature = event.get("temperature_c")
        listen(DeviceTelemetry(str(event.get("stage", "")), temperature if isinstance(temperature, float) else None))

    return on_event
