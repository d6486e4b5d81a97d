"""What do workers save: candidates and three finalists in one process, in processes, and on two Ray nodes?

Two Ray nodes on the loopback interface, each with one CPU, with real worker processes. Each task computes with one
thread. Results have to be the same bit by bit; one training is interrupted by killing its worker (SIGKILL).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from _common.halved import builder_for

from pipeline.config import FineTuningConfig
from pipeline.data import load_data
from pipeline.evaluation.candidate_task import BuildCandidate, RoundInputs
from pipeline.events import Note, Working
from pipeline.records import PruningPlan
from pipeline.run.finalist_task import TrainFinalist
from pipeline.run.training_course import Checkpointed, Course
from pipeline.training.settings import settings_of
from pipeline.workers.executor import Executor, Shared, in_order
from pipeline.workers.open import opened

CORES = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--steps", type=int, default=150, help="of each finalist")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    torch.manual_seed(0)
    builder = builder_for(asked.model, asked.weights, load_data(asked.data, seed=0))
    inputs = RoundInputs(builder, builder.base)
    print(
        f"{'':14} {asked.candidates:>4} candidates         3 finalists of {asked.steps} steps      results", flush=True
    )
    print(f"{'':14} {'s':>6} {'speed-up':>9} {'ideal':>6} {'s':>8} {'speed-up':>9} {'ideal':>6}", flush=True)
    first: tuple[float, float, str] | None = None
    for name, spec in (("one process", None), ("2 processes", 2), ("2 Ray nodes", "ray")):
        with _cluster(spec), opened(spec, threads=1, available=CORES, gpus=0, listen=lambda _: None) as workers:
            shared = Shared(inputs)
            _ready(workers, shared)
            building, built = _timed(lambda: _candidates(workers, shared, asked.candidates))  # noqa: B023
            training, trained = _timed(lambda: _finalists(workers, shared, asked.steps))  # noqa: B023
        found = hashlib.sha256(repr((built, trained)).encode()).hexdigest()[:12]
        first = first or (building, training, found)
        same = "the same" if found == first[2] else "OTHERS"
        ideals = [1.0, 1.0] if spec is None else [CORES, 3 / 2]  # three finalists on two cores: two rounds of them
        print(
            f"{name:14} {building:>6.1f} {first[0] / building:>8.2f}x {ideals[0]:>5.2g}x {training:>8.1f} "
            f"{first[1] / training:>8.2f}x {ideals[1]:>5.2g}x   {same}", flush=True,
        )  # fmt: skip
    for name, spec in (("2 processes", 2), ("2 Ray nodes", "ray")):
        with _cluster(spec), opened(spec, threads=1, available=CORES, gpus=0, listen=lambda _: None) as workers:
            said, again = _killed(workers, Shared(inputs), asked.steps)
        print(f"{name}, a worker killed in mid-training: {'the same' if again == trained else 'OTHER'} weights; {said}")
    left = [each.name() for each in psutil.Process().children(recursive=True)]
    print(f"processes left: {len(left)} {' '.join(left)}")


def _ready(workers: Executor, shared: Shared[RoundInputs]) -> None:
    """Let each worker start, and take what candidates are made of: a run does so once."""
    plans = _plans(shared.value, workers.size)
    for _, future in in_order(workers, lambda plan: _built(workers, shared, plan), plans):
        future.result()


def _plans(inputs: RoundInputs, count: int) -> list[PruningPlan]:
    groups = inputs.builder.space.groups
    levels = [[level for level in group.levels if level < 100] for group in groups]
    return [PruningPlan(levels=tuple(own[(n + i) % len(own)] for i, own in enumerate(levels))) for n in range(count)]


def _built(workers: Executor, shared: Shared[RoundInputs], plan: PruningPlan) -> Any:
    task = BuildCandidate(plan, 1)
    return workers.submit(lambda: task, shared, what="a candidate", tell=lambda _: None)


def _candidates(workers: Executor, shared: Shared[RoundInputs], count: int) -> list[Any]:
    futures = in_order(workers, lambda plan: _built(workers, shared, plan), _plans(shared.value, count))
    return [future.result().candidate for _, future in futures]


def _finalists(
    workers: Executor, shared: Shared[RoundInputs], steps: int, hear: Callable[[int, Any], None] = lambda *_: None
) -> list[str]:
    """Return the SHA-256 of the weights of three finalists."""
    settings = settings_of(FineTuningConfig(), epochs=0.001, min_steps=steps, seed=0)
    kept: dict[int, bytes] = {}

    def submitted(number: int, plan: PruningPlan) -> Any:
        def begin() -> TrainFinalist:
            course = Course(settings=settings, title="train", checkpoint=kept.get(number), checkpoint_s=1.0)
            return TrainFinalist(
                plan=plan, index=number, weights=None, course=course, accelerator="cpu", half_on=frozenset(), threads=1
            )

        def tell(event: Any) -> None:
            if isinstance(event, Checkpointed):
                kept[number] = event.data
            hear(number, event)

        return workers.submit(begin, shared, what=f"finalist {number}", tell=tell)

    plans = list(enumerate(_plans(shared.value, 3)))
    found = [future.result() for _, future in in_order(workers, lambda each: submitted(*each), plans)]
    return [hashlib.sha256(each.weights).hexdigest() for each in found]


def _killed(workers: Executor, shared: Shared[RoundInputs], steps: int) -> tuple[str, Sequence[str]]:
    """Return what was said, and the weights, where one worker is killed at half of a training."""
    notes: list[str] = []

    def hear(number: int, event: Any) -> None:
        if isinstance(event, Note):
            notes.append(event.text)
        if isinstance(event, Working) and number == 1 and event.done == steps // 2 and not notes:
            notes.append("killed")
            pool: Any = workers
            names = {worker.name: worker.pid for worker, _ in pool._workers.values()}
            os.kill(names[event.worker], signal.SIGKILL)

    found = _finalists(workers, shared, steps, hear)
    return "; ".join(notes[1:]), found


@contextmanager
def _cluster(spec: int | str | None) -> Iterator[None]:
    """Have two Ray nodes of one CPU each, where they are asked for."""
    if spec != "ray":
        yield
        return
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # else two nodes of one address wait for each other
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 200 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(**node)
    cluster.wait_for_nodes()
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        yield
    finally:
        del os.environ["RAY_ADDRESS"]
        cluster.shutdown()


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


if __name__ == "__main__":
    threading.current_thread().name = "benchmark"
    main()
