"""Runs of a tuning: found by their settings, resumed or begun; only the best reads the test split."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import serialization
from pipeline.config import RunConfig
from pipeline.errors import CandidateError, StoppedError, TargetError
from pipeline.events import Listener
from pipeline.measurement.relative_costs import relative_costs
from pipeline.records import Artifact, Device, Figures
from pipeline.run.origin import require_same_origin
from pipeline.run.runner import Prepared, execute, prepared
from pipeline.run.splitting import stored_splits
from pipeline.store import RunsRoot, Store
from pipeline.store.facts import BASE, BASE_WEIGHTS, FAILURE, SECONDS, TUNING, Tuning
from pipeline.store.new_run import create_run
from pipeline.store.runs import DAMAGED, FINISHED
from pipeline.store.settings import config_of
from pipeline.tuning.loop import Key, key_of
from pipeline.tuning.objective import Outcome
from pipeline.tuning.settings import Settings, changed

_FAILED = "failed"
_AFTER_THE_BASE = ("reward.", "strategy_options.", "fine_tuning.", "evaluation.", "trials", "rounds")
"""Settings that a base model, which a run trains first, does not depend on."""


@dataclass(kw_only=True)
class TunedRuns:
    """The runs that differ in the searched settings alone."""

    base: RunConfig
    paths: tuple[str, ...]
    """The searched settings."""
    board: Device
    runs: RunsRoot
    inventory: Path | None
    starting: Callable[[], AbstractContextManager[None]] = nullcontext
    """The block in which a run is being made ready, before anything is worth being finished."""
    name: str = field(init=False)
    """The same whenever the same tuning is asked for again, so that it goes on."""
    _known: dict[Key, str] = field(init=False)

    def __post_init__(self) -> None:
        self.name = _name(self.base, self.paths, self.board)
        self._known = {key_of(settings): run for run, settings in _members(self.runs, self.name)}

    def known(self, settings: Settings) -> Outcome | None:
        """Return what came of settings whose run is over."""
        run = self._known.get(key_of(settings))
        if run is None:
            return None
        with Store.open(self.runs, run) as store:
            return outcome_of(store) if store.status in (FINISHED, _FAILED) else None

    def run(self, settings: Settings, listen: Listener, stopping: Callable[[], bool]) -> Outcome:
        """Return what comes of settings; a run that was interrupted goes on.

        Raises:
            PipelineError: what is stored stands, and the same tuning goes on from there; but a run without a network
                that meets the targets is an outcome, too.
        """
        known, config = self._known.get(key_of(settings)), changed(self.base, settings)
        with ExitStack() as stack:
            store = stack.enter_context(Store.open(self.runs, known, write=True)) if known else None
            if store is not None:
                require_same_origin(store)
            base_model = self._base_model(store)
            with self.starting():
                ready = stack.enter_context(self._prepared(config, store, listen, weights_known=base_model is not None))
            if stopping():
                raise StoppedError("stopped as requested; everything measured so far is kept")
            if store is None:
                store = stack.enter_context(self._begun(ready.inputs.config, settings, base_model))
            try:
                execute(ready, store, listen=listen, stopping=stopping)
            except (TargetError, CandidateError) as error:
                store.set(FAILURE, str(error))
                store.finish(_FAILED)
            return outcome_of(store)

    def judge(self, run: str, listen: Listener, stopping: Callable[[], bool]) -> Figures:
        """Let one run, the best, read the test split; return its artifact's figures."""
        with Store.open(self.runs, run, write=True) as store:
            if chosen_of(store).after.test_accuracy is None:
                tuning = store.required(TUNING)
                store.set(TUNING, Tuning(of=tuning["of"], settings=tuning["settings"], judged=True))
                config = config_of(store)
                with self._prepared(config, store, listen, weights_known=True) as ready:
                    execute(ready, store, listen=listen, stopping=stopping)
            return chosen_of(store).after

    def _prepared(
        self, config: RunConfig, store: Store | None, listen: Listener, *, weights_known: bool
    ) -> AbstractContextManager[Prepared]:
        splits = None if store is None else stored_splits(store)
        return prepared(config, self.board, listen=listen, weights_known=weights_known, splits=splits)

    def _begun(self, config: RunConfig, settings: Settings, base_model: Path | None) -> Store:
        store = create_run(self.runs, config, self.board, self.inventory, note=self.name)
        store.set(TUNING, Tuning(of=self.name, settings=dict(settings), judged=False))
        if base_model is not None:
            store.set(BASE_WEIGHTS, store.put_blob(base_model))
        self._known[key_of(settings)] = store.id
        return store

    def _base_model(self, store: Store | None) -> Path | None:
        """Return the base model's weights: the run's own, or of an earlier run where no setting can change them."""
        if store is not None:
            return _weights(store)
        if all(path.startswith(_AFTER_THE_BASE) for path in self.paths):
            for run in self._known.values():
                with Store.open(self.runs, run) as other:
                    if weights := _weights(other):
                        return weights
        return None


def _weights(store: Store) -> Path | None:
    known = store.get(BASE_WEIGHTS)
    return None if known is None else store.blob(known)


def outcome_of(store: Store) -> Outcome:
    """Return what came of a run that is over."""
    settings, seconds = store.required(TUNING)["settings"], store.get(SECONDS) or 0.0
    if store.status != FINISHED:
        return Outcome(run=store.id, settings=settings, failure=str(store.get(FAILURE)), seconds=seconds)
    chosen, base = chosen_of(store), store.required(BASE)
    costs = relative_costs(chosen.after.measurement, size=chosen.after.size_bytes / base.size_bytes)
    return Outcome(
        run=store.id, settings=settings, accuracy=chosen.validation_accuracy, latency=costs.latency,
        energy=costs.energy, size=costs.size, seconds=seconds,
    )  # fmt: skip


def chosen_of(store: Store) -> Artifact:
    """Return the artifact that a finished run chose."""
    return next(artifact for artifact in store.artifacts() if artifact.chosen)


def _members(runs: RunsRoot, name: str) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield the runs of a tuning and their settings."""
    for summary in Store.list(runs):
        if summary.status != DAMAGED:
            with Store.open(runs, summary.id) as store:
                tuning = store.get(TUNING)
            if tuning is not None and tuning["of"] == name:
                yield summary.id, tuning["settings"]


def _name(base: RunConfig, paths: Iterable[str], board: Device) -> str:
    """Return the name that all runs bear which differ in the searched settings alone."""
    alike = base.model_dump(mode="json", by_alias=True)
    alike.pop("workers")  # change nothing but the time
    if alike["lookahead"] is None:
        del alike["lookahead"]  # which older versions did not know
    for path in paths:
        *sections, key = path.split(".")
        section = alike
        for section_name in sections:
            section = section.get(section_name, {})
        section.pop(key, None)  # one of the strategy's own may be absent
    what = serialization.to_text([alike, sorted(paths), board.name, str(Path.cwd())])
    return f"tune-{hashlib.sha256(what.encode()).hexdigest()[:6]}"
