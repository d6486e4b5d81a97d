"""From ``workers`` in run.yaml to the executor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from pipeline.errors import WorkersError
from pipeline.events import Listener, Note
from pipeline.workers.executor import Executor, InProcess
from pipeline.workers.pool import WorkerPool


@contextmanager
def opened(
    spec: int | str | None, *, threads: int | None, available: int, gpus: int, listen: Listener
) -> Iterator[Executor]:
    """Yield what computes candidates; every worker has ended when the block does.

    Args:
        spec: how many processes, or which Ray cluster; None: this process.
        threads: that run.yaml names for a task.
        available: threads of this process.
        gpus: of this machine, that may be trained on.
        listen: hears what computes.

    Raises:
        ConfigError: Ray is not installed.
        WorkersError: the cluster cannot be joined, or has no CPU.
    """
    if spec is None:
        yield InProcess()
    elif isinstance(spec, int):
        with _closed(_processes(spec, threads, gpus)) as pool:
            each = pool.threads(available)
            listen(Note(f"{spec} worker process{'es' if spec > 1 else ''}, {_threads(each)} each"))
            yield pool
    else:
        yield from _on_ray(spec, threads or available, listen)


def _processes(count: int, threads: int | None, gpus: int) -> WorkerPool:
    from pipeline.workers.process_worker import ProcessWorker

    def each(available: int) -> int:
        return min(available, threads or max(1, available // count))

    return WorkerPool(lambda number, _: ProcessWorker(number, gpus), count, each)


def _on_ray(spec: str, wanted: int, listen: Listener) -> Iterator[Executor]:
    from pipeline.workers.ray_cluster import RayCluster

    cluster = RayCluster(spec)
    try:
        nodes = cluster.nodes()
        threads = max(1, min([wanted, *(node.cpus for node in nodes if node.cpus)]))
        count, gpus = sum(node.cpus // threads for node in nodes), sum(node.gpus for node in nodes)
        if count == 0:
            raise WorkersError("no node of the Ray cluster has a CPU; begin them with ray start --num-cpus N")
        on = f"{len(nodes)} node{'s' if len(nodes) > 1 else ''}"
        with_gpus = f", {gpus} GPU{'s' if gpus > 1 else ''} for training" if gpus else ""
        listen(Note(f"Ray: {count} worker{'s' if count > 1 else ''} on {on}, {_threads(threads)} each{with_gpus}"))
        start = partial(cluster.start, threads)
        with _closed(WorkerPool(start, count, lambda _: threads, gpus=gpus)) as pool:
            yield pool
    finally:
        cluster.close()


@contextmanager
def _closed(pool: WorkerPool) -> Iterator[WorkerPool]:
    try:
        yield pool
    finally:
        pool.close()


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"
