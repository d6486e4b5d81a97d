"""ResNeSt's split attention: what its grouped convolutions make is added up group by group, and is cut all alike."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import fx, nn

from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import prune
from pipeline.pruning.trace import trace
from pipeline.records import SearchSpace
from tests.pipeline.pruning.nested import Around, ResNest
from tests.pipeline.pruning.networks import IMAGES
from tests.pipeline.pruning.oracle import at_random, distinct, plan, require_widths, silenced
from tests.variations import variations


def built(radix: int, cardinality: int, *, split: bool) -> nn.Module:
    torch.manual_seed(0)
    model = Around(ResNest(radix, cardinality, split=split))
    model(IMAGES)
    return distinct(model.eval())


@functools.cache
def studied(radix: int, cardinality: int, *, split: bool) -> tuple[fx.GraphModule, SearchSpace]:
    graph = trace(built(radix, cardinality, split=split), IMAGES)
    return graph, search_space(graph, IMAGES, step=2)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(("radix", "cardinality"), [(2, 1), (4, 1), (2, 2), (4, 2), (1, 4)])
@pytest.mark.parametrize("levels", variations(["25", "50", "75", "mixed", "100"], ["mixed"]))
def test_split_attention_is_cut_rightly(radix: int, cardinality: int, split: bool, levels: str) -> None:
    graph, space = studied(radix, cardinality, split=split)
    assert space.refused == {"fc": "it makes the output"}
    wanted = plan(space, levels)
    assert sum(wanted) > 0
    pruned = prune(graph, space, wanted, at_random(space), IMAGES)
    require_widths(graph, pruned, space, wanted, IMAGES)
    torch.testing.assert_close(pruned(IMAGES), silenced(graph, pruned)(IMAGES), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("split", [False, True])
def test_where_no_group_of_a_convolution_can_go_alone_all_are_cut_alike(split: bool) -> None:
    graph, space = studied(2, 1, split=split)
    found = {g.name.removeprefix("middle."): (g.channels, g.width) for g in space.groups}
    assert found == {"stem.0": (8, 1), "first.0": (16, 2), "attention.conv.0": (32, 2), "attention.fc1": (16, 1)}
    levels = tuple(50 if "conv" in g.name or "first" in g.name else 0 for g in space.groups)
    conv = prune(graph, space, levels, at_random(space), IMAGES).get_submodule("middle.attention.conv.0")
    assert isinstance(conv, nn.Conv2d)
    assert (conv.groups, conv.in_channels, conv.out_channels) == (2, 8, 16)
