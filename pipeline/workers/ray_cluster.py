"""Ray cluster: joined or begun on this machine; its nodes' CPUs and GPUs are what workers are made of."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ConfigError, WorkersError, first_line
from pipeline.workers.executor import Shared
from pipeline.workers.messages import Call, Message, dumps, loads
from pipeline.workers.pool import WorkerGoneError
from pipeline.workers.ray_actor import Actor, versions
from pipeline.workers.spec import RAY

INSTALL = "pip install 'edge-pruning-pipeline[ray]'"
_POLL_S = 0.2
_START_S = 60.0
"""So long may a worker take to start; it imports torch, and may wait for what it asked for."""


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster."""

    address: str
    cpus: int
    gpus: int


class RayCluster:
    """Connected until it is closed; a cluster that it began itself ends with it."""

    def __init__(self, spec: str) -> None:
        """Connect: to what ``ray://HOST`` names; ``ray``: to this machine's cluster, or begin one.

        Raises:
            ConfigError: Ray is not installed.
            WorkersError: there is no cluster, or it cannot be joined.
        """
        # Ray tells its makers of every cluster that begins, unless it is asked not to.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError as error:
            raise ConfigError(f"workers: {spec} needs Ray, which is not installed: {INSTALL}") from error
        self._ray = ray
        self._references: dict[str, Any] = {}
        self._connect(spec)

    def _connect(self, spec: str) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        logging.getLogger("ray").setLevel(logging.ERROR)
        try:
            with _signals_kept():
                if spec != RAY:
                    self._ray.init(spec, **quiet)
                    return
                try:
                    self._ray.init("auto", **quiet)
                except ConnectionError:  # none was begun here
                    self._ray.init(include_dashboard=False, **quiet)
        except Exception as error:  # Ray's own, grpc's, and those of the operating system
            raise WorkersError(
                f"the Ray cluster {spec} cannot be joined: {first_line(error)}; `ray status` there says whether it is "
                "up, and both sides need the same version of Ray and of Python"
            ) from error

    def nodes(self) -> list[Node]:
        """Return the machines that are up, the largest first."""
        found = [
            Node(
                str(one["NodeManagerAddress"]), int(one["Resources"].get("CPU", 0)), int(one["Resources"].get("GPU", 0))
            )
            for one in self._ray.nodes()
            if one["Alive"]
        ]
        return sorted(found, key=lambda node: (-node.cpus, node.address))

    def start(self, threads: int, number: int, gpu: bool) -> RayWorker:
        """Start a worker that has ``threads`` CPUs of a node, and a GPU.

        Raises:
            WorkersError: no node has them free, or has other versions of what computes.
        """
        return RayWorker(self._ray, number, threads, gpu, self._reference)

    def _reference(self, shared: Shared[Any]) -> Any:
        """Return the place of what tasks are computed from; it is put into the cluster once."""
        if shared.id not in self._references:
            self._references = {shared.id: self._ray.put(shared.payload)}
        return self._references[shared.id]

    def close(self) -> None:
        """Leave the cluster; its workers end."""
        self._references = {}
        self._ray.shutdown()


class RayWorker:
    """One actor of the cluster."""

    def __init__(self, ray: Any, number: int, threads: int, gpu: bool, reference: Callable[[Shared[Any]], Any]) -> None:
        self._ray, self._reference = ray, reference
        made = ray.remote(Actor).options(
            num_cpus=threads, num_gpus=int(gpu), max_concurrency=4, max_restarts=0, max_task_retries=0,
            runtime_env={} if gpu else {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}},  # a GPU is another worker's
        )  # fmt: skip
        self._actor = made.remote()
        self._call: Any = None
        self._said: list[Message] = []
        self.name = f"worker {number + 1}"
        self.name += f" on {self._greeted(threads, gpu)}"

    def _greeted(self, threads: int, gpu: bool) -> str:
        """Return the address of the worker's node; raises WorkersError where it cannot compute what this host does."""
        try:
            there = self._ray.get(self._actor.versions.remote(), timeout=_START_S)
        except self._ray.exceptions.GetTimeoutError as error:
            self.close()
            wanted = f"{threads} CPUs" + (" and a GPU" if gpu else "")
            raise WorkersError(
                f"no node of the Ray cluster had {wanted} free within {_START_S:.0f} s; `ray status` says who has "
                "them; `threads: 1` in run.yaml asks for fewer"
            ) from error
        except self._ray.exceptions.RayError as error:
            raise WorkersError(
                f"{self.name} cannot be started in the Ray cluster: {first_line(error)}; this program has to be "
                f"installed on each of its nodes: {INSTALL}"
            ) from error
        for part, here in versions().items():
            if there.get(part) != here:
                raise WorkersError(
                    f"{self.name} on {there['address']} has {part} {there.get(part)}, this host {here}: their results "
                    f"could not be compared; install the same there"
                )
        self.pid = int(there["pid"])
        return str(there["address"])

    def begin(self, task: bytes, shared: Shared[Any]) -> None:
        """Send a task; what it is computed from, its node takes from the cluster's memory once."""
        # In a list it travels as a reference, which the worker follows where it has not got the value yet.
        self._call = self._actor.run.remote(dumps(Call(shared.id, task)), [self._reference(shared)])

    def answer(self) -> Message:
        """Wait for the next message about the task."""
        ray = self._ray
        try:
            while not self._said:
                done, _ = ray.wait([self._call], timeout=_POLL_S)
                self._said += [loads(each) for each in ray.get(self._actor.messages.remote())]
                if done:
                    self._said.append(loads(ray.get(self._call)))
        except ray.exceptions.RayError as error:
            raise WorkerGoneError(first_line(error)) from error
        return self._said.pop(0)

    def stop(self) -> None:
        """Ask the task to end where it next says something."""
        self._actor.stop.remote()

    def close(self) -> None:
        """End the actor."""
        self._ray.kill(self._actor)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Leave the program's own handlers in their place: Ray's would end it at a signal that asks it to stop."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
