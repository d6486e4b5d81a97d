"""Networks are pruned alike however their forward() is written, and what is cut is what would be ignored.

Each layer stands in a group, or in the list of what stays.
"""

from __future__ import annotations

import pytest
import torch

from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.search_space import search_space
from pipeline.pruning.surgery.prune import without
from pipeline.pruning.surgery.verify_cut import find_violations
from pipeline.pruning.trace import trace
from tests.pipeline.pruning.networks import IMAGES
from tests.pipeline.pruning.oracle import require_all_listed
from tests.pipeline.pruning.written_otherwise import FOLLOWED, LONG, Between
from tests.variations import variations


@pytest.mark.parametrize("name", variations(FOLLOWED, FOLLOWED.keys() - LONG))
def test_channels_can_go_one_by_one_however_forward_is_written(name: str) -> None:
    done, reads, units = FOLLOWED[name]
    model = trace(Between(done, reads), IMAGES)
    known = dependency_graph(model, IMAGES)
    assert sum(group.units for group in known.groups.values() if "conv" in known.makers[group.name]) == units
    assert find_violations(model, IMAGES) == {}
    require_all_listed(search_space(model, IMAGES, step=1))
    pruned = without(model, {g: torch.arange(c.units // 2) for g, c in known.groups.items()}, (), IMAGES)
    assert pruned.conv.out_channels <= 12
    assert pruned(IMAGES).shape == (4, 5)
