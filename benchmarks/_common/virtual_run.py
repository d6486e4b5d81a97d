"""One run on a virtual board, without training: all that is measured and decided is the pipeline's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

from _common.findings import Findings
from _common.virtual_board import Board, Conditions, model_file
from pipeline.config import RunConfig
from pipeline.evaluation.candidate_builder import Built
from pipeline.evaluation.device_bench import Bench
from pipeline.export.format import Skeleton
from pipeline.measurement.drift import corrected
from pipeline.measurement.relative_costs import relative_costs, violation
from pipeline.models.safetensors_io import WEIGHTS
from pipeline.objective.load import classification
from pipeline.records import FULL, Artifact, Candidate, Figures, Interval, Measurement, PruningPlan, Trial
from pipeline.run.base_model import Base
from pipeline.run.context import Context
from pipeline.run.finalists import Climb, Finalists
from pipeline.run.selection import choose, pick_finalists
from pipeline.run.successive_halving import Rung

LIMIT = 0.5
INSIDE = 0.99 * LIMIT
"""1 % inside the limit: should not be rejected."""
ABOVE = {"5 % above": 1.05 * LIMIT, "10 % above": 1.1 * LIMIT, "30 % above": 1.3 * LIMIT}
PLAIN = 0.45
"""Far enough inside that nothing is decided by its figures."""
FINALISTS = (0.480, 0.485, 0.490, 0.495, 0.498, 0.500, 0.502, 0.505, 0.510)
SEARCHED = {"plain": [PLAIN] * 3, "1 % inside": [INSIDE] * 4, "at the limit": [LIMIT] * 2,
            **{name: [share] for name, share in ABOVE.items()}}  # fmt: skip
BUILDING_S = 4.0
"""The board is left alone for so long while the next candidate is built."""
CHOOSING_S = 120.0
"""And while finalists are trained."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run on one board."""

    conditions: Conditions
    found: Findings
    board: Board
    bench: Bench

    def go(self) -> None:
        """Measure, search and choose."""
        with self._costing("base"):
            base = self.bench.base()
        self._saw("base ms", base.p50_ms, self._true_ms(1.0))
        for kind, shares in SEARCHED.items():
            for number, share in enumerate(shares):
                self._search(kind, f"{kind} {number}", share)
        self._look_again(base)
        self._choose(base)

    def _search(self, kind: str, name: str, share: float) -> Measurement:
        """Measure a network as a candidate of the search."""
        self.board.clock.sleep(BUILDING_S)
        with self._costing(kind):
            measured, _ = self.bench.measure(self._built(share, name))
        assert measured.ratio is not None  # it is measured beside the base
        self.found.rejected[kind].append(measured.early)
        if kind == "plain" and not measured.early:
            self._saw("search ratio", measured.ratio, share)
        elif measured.early and share > LIMIT:
            self._saw("rejected ratio", measured.ratio, share)
        return measured

    def _look_again(self, base: Measurement) -> None:
        """Measure networks longer, and their whole files."""
        for number, share in enumerate(SEARCHED["plain"]):
            with self._costing("again"):
                again = self.bench.remeasure(self._built(share, f"plain {number}").skeleton)
            with self._costing("whole"):
                whole = self.bench.measure_file(
                    model_file(self.conditions.base_ms * share, "whole"), f"plain whole {number}"
                )
            assert again.ratio is not None
            assert whole.ratio is not None
            self._saw("again", again.ratio, share)
            self._saw("whole", whole.ratio, share)
            self._saw("whole in ms", corrected(whole, base), self._true_ms(share))

    def _choose(self, base: Measurement) -> None:
        """Search the finalists and choose one of them as a run does, without training any."""
        trials = [self._trial(i, share) for i, share in enumerate(FINALISTS)]
        self.board.clock.sleep(CHOOSING_S)
        with self._costing("choosing"):
            chosen = choose(_finals(self, base), pick_finalists(trials, self.bench.limits))
        if chosen is None:
            self.found.none_chosen += 1
            return
        measured, share = chosen.after.measurement, FINALISTS[chosen.trial]
        assert measured.ratio is not None
        self._saw("chosen ratio", measured.ratio, share)
        self._saw("chosen ms", corrected(measured, base), self._true_ms(share))

    def _trial(self, index: int, share: float) -> Trial:
        built = self._built(share, f"finalist {index}")
        measured = self._search("finalists", f"finalist {index}", share)
        feasible = violation(relative_costs(measured), self.bench.limits) == 0
        return Trial(
            index=index, plan=_plan(index), key=built.candidate.key, candidate=built.candidate, measurement=measured,
            reward=share, feasible=feasible,
        )  # fmt: skip

    def _built(self, share: float, name: str) -> Built:
        candidate = Candidate(key=name, accuracy=share, parameters=1, macs=1, size_bytes=1000, probe_bytes=50)
        return Built(candidate, Skeleton(model_file(self.conditions.base_ms * share, name), 1000, name), {})

    def _true_ms(self, share: float) -> float:
        return share * self.conditions.median_ms(self.conditions.base_ms)

    def _saw(self, name: str, interval: Interval, truth: float) -> None:
        self.found.intervals[name].append((interval, truth))

    @contextmanager
    def _costing(self, what: str) -> Iterator[None]:
        start_s, before = self.board.clock.now_s, self.board.measurements
        yield
        self.found.board_s[what].append(self.board.clock.now_s - start_s)
        self.found.processes[what].append(self.board.measurements - before)


class _Untrained(Finalists):
    """Finalists whose networks are not trained: everything that is measured and decided is the run's own."""

    def climb(self, trials: Sequence[Trial], rungs: Sequence[Rung], number: int) -> Iterator[Climb]:
        """Yield finalists and their accuracy: the slower, the better."""
        del rungs, number
        for trial in trials:
            yield trial, lambda trial=trial: FINALISTS[trial.index]  # type: ignore[misc]

    def fine_tune_short(self, trial: Trial) -> Artifact:
        """Return a finalist, its whole file measured."""
        assert trial.measurement is not None
        before = _figures(trial.measurement)
        return self._whole(
            Artifact(
                id=self.name(trial), trial=trial.index, plan=trial.plan, key=trial.key, files={}, before=before,
                after=before, device_accuracy=None, host_accuracy=None,
            )
        )  # fmt: skip

    def fine_tune_full(self, brief: Artifact) -> Artifact:
        """Return a finalist as if it had been trained in full."""
        return self._whole(replace(brief, id=f"{brief.id}{FULL}"))

    def _whole(self, artifact: Artifact) -> Artifact:
        store, share = self.context.store, FINALISTS[artifact.trial]
        file = model_file(share * json.loads(self.base.skeleton)["ms"], artifact.id)
        files = {"model.onnx": store.put_blob(file), WEIGHTS: store.put_blob(b"")}
        done = replace(artifact, files=files, after=_figures(self.artifacts.measure(file, artifact.id)))
        store.add_artifact(done)
        return done


def _finals(run: Run, base: Measurement) -> Finalists:
    """Return what makes finalists of this run's trials; what only training would need is left out."""
    bench, nothing = run.bench, cast(Any, None)
    context = Context(
        config=RunConfig(), store=bench.store, boards=bench.boards,
        data=cast(Any, SimpleNamespace(task=classification())), example=nothing,
        format=cast(Any, SimpleNamespace(name="onnx")), listen=lambda _: None, stopping=lambda: False,
    )  # fmt: skip
    builder = cast(Any, SimpleNamespace(skeleton=lambda at: run._built(FINALISTS[at[0]], f"finalist {at[0]}").skeleton))
    of_base = Base(network=nothing, skeleton=bench.base_skeleton, figures=_figures(base))
    return _Untrained(context=context, builder=builder, bench=bench, base=of_base, limits=bench.limits)


def _plan(index: int) -> PruningPlan:
    return PruningPlan(levels=(index,))


def _figures(measurement: Measurement) -> Figures:
    return Figures(
        search_accuracy=1.0, test_accuracy=None, parameters=1, macs=1, size_bytes=1000, measurement=measurement
    )  # fmt: skip
