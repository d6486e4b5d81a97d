from __future__ import annotations

import pytest
from torch import fx

from pipeline.export.constants import constants
from pipeline.export.tflite.template import Template, study
from pipeline.pruning.search_space import search_space
from pipeline.records import SearchSpace
from tests.pipeline.export.tflite.tiny import CONVERTED, IMAGES, tiny


@pytest.fixture(scope="session")
def template() -> Template:
    return study(CONVERTED.read_bytes(), constants(tiny()))


@pytest.fixture(scope="session")
def network() -> fx.GraphModule:
    """With other weights than the template's."""
    return tiny(seed=7)


@pytest.fixture(scope="session")
def space(network: fx.GraphModule) -> SearchSpace:
    return search_space(network, IMAGES, step=2)
