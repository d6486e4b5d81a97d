"""A run that takes milliseconds: four patterns of 6 × 6 pixels, two convolutions, and files of the null runtime."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from pipeline.config import RunConfig
from pipeline.data import DataSet, Splits
from pipeline.data.dataset import Split
from pipeline.data.pools import MemoryPool
from pipeline.devices.agent_client import Agent
from pipeline.devices.board_pool import BoardPool
from pipeline.evaluation.candidate_builder import Builder
from pipeline.evaluation.cut_profiling import CutProfile, cost_tables, single_cuts
from pipeline.evaluation.device_bench import Bench
from pipeline.export.format import Skeleton
from pipeline.models.safetensors_io import weights_bytes
from pipeline.pruning.complexity import weigh
from pipeline.pruning.search_space import search_space
from pipeline.records import Interval, Measurement, MeasureSettings, PruningPlan, Trial
from pipeline.run.base_model import Base, make_base
from pipeline.run.context import Context
from pipeline.run.finalists import Finalists
from pipeline.run.problem import build_problem
from pipeline.run.provenance import store_provenance
from pipeline.run.round import builder_of
from pipeline.run.search_stage import Search
from pipeline.run.target_check import TargetCheck
from pipeline.search.strategy import Problem
from pipeline.store import Store
from pipeline.targets import Metric
from pipeline.workers.executor import Executor, InProcess
from tests.examples import measurement
from tests.pipeline.listening import Listener

BRIEF = MeasureSettings(
    warmup_s=0.0, min_s=0.05, max_s=0.1, block_s=0.005, ci_rel=0.5, processes=1, timeout_s=20.0, max_background_cores=64
)
CLASSES, SIDE, MACS_A_MS = 4, 6, 40_000
"""The whole network, of 23,000 MACs, then takes long enough to be timed, thirty inferences a twentieth of a second."""

SETTINGS: Mapping[str, Any] = {
    "model": "net.py:Net", "weights": Path("net.pt"), "target": "size=0.9x", "strategy": "random", "trials": 3,
    "checkpoint_s": 0.0, "training_precision": "float32",
    "evaluation": {"batch_norm_images": 16, "search_images": 16, "reconstruction_samples": 64, "ranking_images": 16},
    "fine_tuning": {
        "finalists": 1, "finalist_epochs": 1.0, "epochs": 1.0, "min_steps": 2, "verify_images": 2, "batch_size": 16,
        "reconstruction_images": 16, "reconstruction_samples": 64,
    },
    "base_training": {"epochs": 2.0, "head_epochs": 1.0, "whole_epochs": 1.0, "min_steps": 2, "batch_size": 16},
}  # fmt: skip


class Net(nn.Module):
    """Two groups of eight channels, which can be cut each by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


def net(seed: int = 0) -> Net:
    """The same random weights for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Net()


def toy_data() -> DataSet:
    """Flat, horizontal, vertical and chequered images in turns: 40 to train on, 16 to search, 12 and 12 others."""
    rows = torch.arange(SIDE) % 2
    flat, across, down = torch.ones(SIDE, SIDE), rows[:, None].expand(SIDE, SIDE), rows[None].expand(SIDE, SIDE)
    patterns = torch.stack([flat, across, down, (rows[:, None] + rows[None]) % 2])[:, None]
    labels = torch.arange(80) % CLASSES
    noise = torch.rand(80, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    pool = MemoryPool((patterns[labels] * 180 + noise * 70).to(torch.uint8), labels)
    parts = dict(zip(("train", "search", "val", "test"), torch.arange(80).split([40, 16, 12, 12]), strict=True))
    return DataSet(
        name="patterns", classes=("flat", "across", "down", "chequered"), shape=(1, SIDE, SIDE), mean=(0.4,),
        std=(0.3,), splits=Splits(**parts, images=80, checksum="80 patterns"),
        **{name: Split(pool, indices, (0.4,), (0.3,)) for name, indices in parts.items()},
    )  # fmt: skip


@dataclass(frozen=True)
class NullFiles:
    """The null runtime's files: the more MACs a network has the longer it takes, and it answers class 0."""

    example: Tensor
    host_answers: int = 0
    """The class that the host finds in a file."""
    told: Callable[[fx.GraphModule], Mapping[str, object]] = lambda _: {}
    """What else the runtime is told of a network: to refuse it, to fail after so many inferences."""
    name: str = "onnx"
    precision: str = "float32"

    def file(self, network: fx.GraphModule) -> bytes:
        weight = weigh(network, self.example)
        said = {
            "ms": weight.macs / MACS_A_MS, "outputs": [1.0, 0.0, 0.0, 0.0],
            "weights": sha256(weights_bytes(network)).hexdigest(), **self.told(network),
        }  # fmt: skip
        return json.dumps(said).encode().ljust(4 * weight.parameters)

    def skeleton(self, network: fx.GraphModule) -> Skeleton:
        file, weight = self.file(network), weigh(network, self.example)
        header = json.dumps({"size": len(file), "fill": []}).encode()
        return Skeleton(zlib.compress(header + b"\n" + file), len(file), f"{weight.macs} MACs, {weight.parameters}")

    def answers(self, file: bytes, images: NDArray[np.float32]) -> NDArray[np.float32]:
        del file
        return np.eye(CLASSES, dtype=np.float32)[[self.host_answers] * len(images)]


def widths(network: fx.GraphModule) -> tuple[int, int]:
    """The channels of both convolutions."""
    state = network.state_dict()
    return len(state["conv1.weight"]), len(state["conv2.weight"])


def took(ratio: float, half: float = 0.0, **changes: Any) -> Measurement:
    """A measurement whose latency is so much of the base model's."""
    return measurement(2 * ratio, ratio=Interval(ratio, ratio - half, ratio + half), **changes)


def configured(**changes: Any) -> RunConfig:
    """The toy's settings; sections are changed key by key."""
    merged = {
        key: {**SETTINGS[key], **value} if isinstance(SETTINGS.get(key), dict) else value
        for key, value in changes.items()
    }
    return RunConfig.model_validate({**SETTINGS, **merged})


def toy_context(
    store: Store, agent: Agent, listener: Listener | None = None, workers: Executor | None = None, **settings: Any
) -> Context:
    """A run that has just begun."""
    heard, data = listener or Listener(), toy_data()
    example = next(data.train.batches(4))[0]
    return Context(
        config=configured(**settings), store=store, boards=BoardPool.of(agent), data=data, example=example,
        format=NullFiles(example), listen=heard, stopping=lambda: heard.asked, workers=workers or InProcess(),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Toy:
    """A round that is about to search, its base model measured already: nothing of it depends on this machine."""

    context: Context
    limits: Mapping[Metric, float] = field(default_factory=lambda: {"latency": 0.5})
    number: int = 1
    step: int = 2
    """Of channels: each group then keeps 8, 6, 4 or 2."""

    def __post_init__(self) -> None:
        self.context.store.remember("base process 1", took(1.0))
        store_provenance(self.context)

    @cached_property
    def base(self) -> Base:
        return make_base(self.context, net())

    @cached_property
    def builder(self) -> Builder:
        space = search_space(self.base.network, self.context.example, step=self.step)
        return builder_of(self.context, self.base.network, space)

    @property
    def bench(self) -> Bench:
        return Bench(self.context.boards, self.context.store, self.base.skeleton, round=self.number, limits=self.limits)

    @property
    def finals(self) -> Finalists:
        return Finalists(
            context=self.context, builder=self.builder, bench=self.bench, base=self.base, limits=self.limits
        )

    def problem(self, saved: float = 0.3) -> Problem:
        """What a strategy is told where a group's deepest cut saves so much of the base's latency."""
        space = self.builder.space
        figures = {cut: took(1 - saved * max(levels) / 75) for cut, levels in single_cuts(space).items()}
        costs = cost_tables(space, CutProfile(figures))
        return build_problem(self.context, self.builder, costs, self.limits, self.base)

    def search(self) -> Search:
        return Search(
            context=self.context, base=self.base, builder=self.builder, bench=self.bench, limits=self.limits,
            problem=self.problem(),
        )  # fmt: skip

    def check(self) -> TargetCheck:
        config = self.context.config
        return TargetCheck(targets=config.targets, rounds=config.rounds, base=self.base, limits=self.limits)

    def skeleton(self, trial: Trial) -> Skeleton:
        return self.builder.skeleton(trial.plan.levels)

    def trial(self, index: int, levels: tuple[int, int], found: Measurement, **changes: Any) -> Trial:
        """A trial whose candidate is really built, and whose measurement is told."""
        plan = PruningPlan(levels=levels)
        candidate = self.builder.build(plan).candidate
        whole = Trial(
            index=index, plan=plan, key=candidate.key, candidate=candidate, measurement=found, reward=1 - index / 10,
            feasible=True,
        )  # fmt: skip
        return replace(whole, **changes)

    def know_whole(self, name: str, found: Measurement, process: int = 1) -> None:
        """Let a whole file have been measured before the run was resumed."""
        self.context.store.remember(f"{self.number}:whole:{name} process {process}", found)

    def know_again(self, probe: Skeleton, found: Measurement) -> None:
        """Let a network have been measured longer before the run was resumed."""
        self.context.store.remember(f"{self.number}:structure {probe.structure} again process 1", found)
