"""How many bits INT8 weights have, by the board's and the host's processors."""

from __future__ import annotations

import pytest

from pipeline.quantization.schemes import schemes_of
from pipeline.records import Processor

ARM, WITH_VNNI, WITHOUT = Processor("aarch64"), Processor("x86_64", has_vnni=True), Processor("x86_64", has_vnni=False)
SILENT = Processor("AMD64")
"""As an older agent, or a host that is no Linux."""
HOSTS = (ARM, WITH_VNNI, WITHOUT, SILENT)
BITS = {ARM: (8, 8, 7, 7), WITH_VNNI: (8, 8, 7, 7), WITHOUT: (7, 7, 7, 7), SILENT: (7, 7, 7, 7)}
"""Board → for each host."""


@pytest.mark.parametrize("board", BITS, ids=str)
@pytest.mark.parametrize(("format", "runtime"), [("onnx", "onnxruntime"), ("onnx", "tensorrt"), ("tflite", "tflite")])
def test_eight_bits_are_taken_where_neither_board_nor_host_saturates(
    board: Processor, format: str, runtime: str
) -> None:
    found = [{scheme.weight_bits for scheme in schemes_of([board], host, format, runtime)} for host in HOSTS]
    assert found == [{bits} for bits in BITS[board]]


def test_one_board_of_several_that_saturates_decides_for_all() -> None:
    assert {scheme.weight_bits for scheme in schemes_of([WITH_VNNI, WITHOUT], WITH_VNNI, "onnx")} == {7}


def test_a_processor_of_neither_kind_saturates_nowhere() -> None:
    assert {scheme.weight_bits for scheme in schemes_of([Processor("armv7l")], Processor("riscv64"), "onnx")} == {8}
