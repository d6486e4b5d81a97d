"""Files of every kind that users bring, damaged at random: refused in a sentence, soon, and in little memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile_files.kinds import KINDS
from tests.hostile_files.trying import tried
from tests.variations import one_in

EXAMPLES = 42
"""Of each kind, 550 in all; ``benchmarks/hostile_files.py`` tries as many as one likes."""


@pytest.mark.parametrize("name", one_in(6, KINDS))
def test_a_damaged_file_is_refused_in_a_sentence_and_costs_neither_time_nor_memory(name: str) -> None:
    found = tried(KINDS[name], EXAMPLES)
    assert found.files >= EXAMPLES
    assert found.refused > 0
    assert [(fault.what, fault.detail) for fault in found.faults] == []


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_is_whole_is_read(name: str, tmp_path: Path) -> None:
    KINDS[name].use(KINDS[name].sample(), tmp_path)
