"""The runs that the documents show, each as it stands there, if more briefly."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.command_line import Done
from tests.shown_commands import different, whole

FIRST_LOOK = "pipeline run --quick --output my-model-DATE"
"""What the quick tests run as well."""
RUNS = [
    line
    for line in different(whole("pipeline "))
    if line.startswith(("pipeline run ", "pipeline tune ")) and ":federated" not in line
]  # that one by test_commands.py
TOGETHER = {"--budget", "--epochs", "--precision", "--record", "--target"}
"""Options of which one run can show several: commands with none but these are typed as one."""


def each_or_together(lines: list[str]) -> list[str]:
    """Return commands, the last of which has all options of those that are typed together."""
    options = {line: dict.fromkeys(re.split(r" (?=--)", line)[1:]) for line in lines}
    few = {line: own for line, own in options.items() if {option.split()[0] for option in own} <= TOGETHER}
    one = " ".join(["pipeline run", *dict.fromkeys(option for own in few.values() for option in own)])
    return [*(line for line in lines if line not in few), one]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, id=line, marks=[] if line == FIRST_LOOK else [pytest.mark.slow])
        for line in each_or_together([line for line in RUNS if "--task" not in line])  # those by cli/test_tasks.py
    ],
)
def test_a_run_that_is_shown_ends_well(run_shown: Callable[[str], Done], line: str) -> None:
    done = run_shown(line)
    assert done.code == 0, done.err + done.out
    assert "error: " not in done.err
