from __future__ import annotations

import pytest
import torch

from pipeline.pruning.dependency.dependency_graph import dependency_graph
from pipeline.pruning.importance.filter_norms import filter_norms
from pipeline.pruning.search_space import search_space
from tests.pipeline.pruning.networks import IMAGES, Residual, traced


def test_the_norm_of_a_unit_is_that_of_all_filters_that_make_it() -> None:
    network = traced(Residual)
    space = search_space(network, IMAGES, step=1)
    couplings = dependency_graph(network, IMAGES)
    norms = filter_norms(network, space, couplings.groups)
    for group, found in zip(space.groups, norms, strict=True):
        layers = couplings.makers[group.name]
        weights = [network.get_submodule(layer).weight.detach().double().flatten(1) for layer in layers]
        assert list(found) == pytest.approx(torch.cat(weights, 1).norm(dim=1).tolist())
    assert any(len(couplings.makers[group.name]) > 1 for group in space.groups)
