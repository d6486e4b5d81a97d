"""Networks put together at random of residual blocks, sums, projections and concatenations, cut at random."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.surgery.verify_cut import disproved_blocks
from pipeline.pruning.trace import trace
from tests.pipeline.pruning.nested import Unit
from tests.pipeline.pruning.networks import IMAGES
from tests.pipeline.pruning.oracle import at_random, distinct, require_widths, silenced
from tests.variations import variations


class Part(nn.Module):
    """One way to combine parts of parts, drawn at random."""

    def __init__(self, draw: random.Random, depth: int, channels: int = 8) -> None:
        super().__init__()
        self.kind = draw.choice(["chain", "residual", "many", "projected", "joined", "sum"]) if depth else "unit"
        count = {"unit": 0, "projected": 1}.get(self.kind, draw.randint(2, 3))
        self.parts = nn.ModuleList(Part(draw, depth - 1, channels) for _ in range(count))
        if self.kind == "unit":
            self.own = Unit(channels, channels, draw.choice([1, 3]), relu=draw.random() < 0.7)
        elif self.kind in ("projected", "joined"):
            self.own = Unit(channels * count, channels, 1, relu=False)
        self.at, self.from_the_right, self.relu = draw.randint(0, count), draw.random() < 0.5, draw.random() < 0.5

    def forward(self, x: Tensor) -> Tensor:
        y = self._combined(x)
        return functional.relu(y) if self.relu else y

    def _combined(self, x: Tensor) -> Tensor:
        if self.kind == "unit":
            return self.own(x)
        if self.kind in ("chain", "residual"):
            y = self.parts[1](self.parts[0](x))
            return x + y if self.kind == "residual" else y
        made = [part(x) for part in self.parts]
        if self.kind == "projected":
            return made[0] + self.own(x)
        if self.kind == "joined":
            return self.own(torch.cat(made, 1))
        if self.kind == "many":
            made.insert(self.at, x)
        if not self.from_the_right:
            return sum(made)
        total = made.pop()
        while made:
            total = made.pop() + total
        return total


class Network(nn.Module):
    """Two random parts between a stem and a classifier."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = random.Random(seed)
        self.stem, self.fc = Unit(3, 8), nn.Linear(8, 5)
        self.body = nn.Sequential(Part(draw, draw.randint(1, 2)), Part(draw, draw.randint(1, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(self.stem(x)).mean((2, 3)))


class WithZeros(fx.Interpreter):
    """Runs a network in which sums and concatenations get zeros in some places."""

    def __init__(self, network: fx.GraphModule, places: dict[str, set[int | None]]) -> None:
        super().__init__(network)
        self._places = places

    def run_node(self, n: fx.Node) -> Any:
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        places = self._places.get(n.name, set())
        args = tuple(torch.zeros_like(a) if i in places else a for i, a in enumerate(args))
        found = getattr(self, n.op)(n.target, args, kwargs)
        return torch.zeros_like(found) if None in places else found


def expected(base: fx.GraphModule, pruned: fx.GraphModule, gone: set[str]) -> Tensor:
    """The uncut network's answers without what was cut, with zeros in the place of blocks that went."""
    places: dict[str, set[int | None]] = {}
    for block in dependency_graph(base, IMAGES).blocks:
        if block.name in gone:
            places.setdefault(block.node, set()).add(block.place)
    return WithZeros(silenced(base, pruned), places).run(IMAGES)


@pytest.mark.parametrize("seed", variations(range(10), [0]))
def test_whatever_goes_leaves_the_network_that_gets_zeros_in_its_place(seed: int) -> None:
    torch.manual_seed(seed)
    base = trace(distinct(Network(seed).eval()), IMAGES)
    space = search_space(base, IMAGES, step=2)
    assert disproved_blocks(base, IMAGES) == {}
    draw = random.Random(seed)
    plans = [tuple(draw.choice(group.levels) for group in space.groups) for _ in range(2)]
    for levels in (*plans, tuple(max(group.levels) for group in space.groups)):
        pruned = prune(base, space, levels, at_random(space), IMAGES)
        require_widths(base, pruned, space, levels, IMAGES)
        asked = [g.bypass for g, level in zip(space.groups, levels, strict=True) if level == 100 and g.bypass]
        gone = set[str]().union(*(space.inside(block) for block in asked))
        torch.testing.assert_close(pruned(IMAGES), expected(base, pruned, gone), rtol=1e-3, atol=1e-4)
