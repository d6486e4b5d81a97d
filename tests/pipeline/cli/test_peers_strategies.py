"""A peer's strategy in a whole run: what it says of itself, and what it sees of the network."""

from __future__ import annotations

import pytest

from tests.command_line import Desk


@pytest.mark.slow
def test_purl_sees_the_filters_says_what_it_leaves_out_and_finds_a_network(desk: Desk) -> None:
    desk.settings(trials="6", target="latency=0.97x size=0.8x")
    run = desk.done("run", "--config", "run.yaml", "--strategy", "purl")
    assert "to zero, which makes no dense runtime faster" in " ".join(run.err.split())
    plans = [trial["plan"]["levels"] for trial in desk.done("runs", "show", "latest", "--json").json["trials"]]
    assert len({tuple(levels) for levels in plans}) == 6
