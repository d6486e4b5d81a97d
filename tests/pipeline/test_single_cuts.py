"""Which probes the cost tables need: one for each different single cut."""

from __future__ import annotations

from pipeline.bench import single_cuts
from tests.pipeline.search.toys import problem


def test_equal_groups_share_a_probe_and_blocks_of_several_groups_have_their_own() -> None:
    space = problem((1, 2, 0, 1)).space  # 16, 32 and 32, 64, and again 16 channels in steps of 16
    plans = sorted(single_cuts(space).values())
    assert plans == sorted([
        (100, 0, 0, 0, 0),  # stands for the last group's block as well
        (0, 50, 0, 0, 0), (0, 100, 0, 0, 0),  # stands for the second group's 50 % as well; the block goes once
        (0, 0, 0, 25, 0), (0, 0, 0, 50, 0), (0, 0, 0, 75, 0),
    ])  # fmt: skip


def test_every_probe_is_a_network_of_its_own() -> None:
    space = problem((2, 1, 0, 3)).space
    keys = [space.key(levels) for levels in single_cuts(space).values()]
    assert len(set(keys)) == len(keys)
    assert space.key((0,) * len(space.groups)) not in keys
