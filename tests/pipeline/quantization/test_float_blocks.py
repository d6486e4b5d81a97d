"""Blocks that a board computes faster in float32: found one by one, decided by a measured pair."""

from __future__ import annotations

from itertools import pairwise

from pipeline.quantization.float_blocks import Block, float_blocks
from pipeline.records import Interval

LAYERS = [f"conv{number}" for number in range(8)]
SLOW = {"conv0": 0.03, "conv1": 0.03, "conv6": 0.02, "conv7": 0.02}
"""What a layer costs more in INT8, of the base model's latency; a change of precision costs as well."""
SWITCH = 0.02


class Board:
    """Adds up what layers cost, but for what lies between two precisions."""

    def __init__(self, *, sure: bool = True, switch: float = SWITCH) -> None:
        self.sure, self.switch, self.pairs = sure, switch, list[Block]()

    def latency(self, block: Block) -> float:
        edges = sum((a in block) != (b in block) for a, b in pairwise(LAYERS))
        return 0.6 - sum(SLOW.get(layer, -0.04) for layer in block) + self.switch * edges

    def beside_whole(self, block: Block) -> Interval:
        self.pairs.append(block)
        value = self.latency(block) / 0.6
        half = 0.001 if self.sure else 0.2
        return Interval(value, value - half, value + half)


def test_blocks_that_are_faster_in_float32_leave_int8_together() -> None:
    board = Board()
    found = float_blocks(LAYERS, 0.6, board.latency, board.beside_whole)
    assert found is not None
    assert found.layers == ("conv0", "conv1", "conv6", "conv7")
    assert found.ratio.high < 1
    assert board.pairs == [found.layers]


def test_no_single_layer_ever_leaves() -> None:
    asked: list[Block] = []

    def latency(block: Block) -> float:
        asked.append(block)
        return 1.0

    assert float_blocks(LAYERS[:5], 0.6, latency, lambda _: None) is None
    assert min(len(block) for block in asked) >= 2
    assert float_blocks(LAYERS[:2], 0.6, latency, lambda _: None) is None  # that would be all of them


def test_what_lies_between_two_precisions_may_cost_more_than_a_block_gains() -> None:
    board = Board(switch=0.1)
    assert float_blocks(LAYERS, 0.6, board.latency, board.beside_whole) is None
    assert board.pairs == []


def test_a_gain_that_may_be_chance_is_none() -> None:
    board = Board(sure=False)
    assert float_blocks(LAYERS, 0.6, board.latency, board.beside_whole) is None
    assert len(board.pairs) == 2  # all of them, then the best one


def test_what_cannot_be_measured_stays_in_int8() -> None:
    assert float_blocks(LAYERS, 0.6, lambda _: None, lambda _: None) is None
    assert float_blocks(LAYERS, 0.6, Board().latency, lambda _: None) is None
