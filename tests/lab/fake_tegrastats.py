"""A program named tegrastats that replays a line of any generation at its true rate, and can die, hang or break off."""

from __future__ import annotations

import json
import sys
from pathlib import Path

SCRIPT = """\
#!{python} -S
import itertools, json, os, re, sys, time

if sys.argv[1] != "--interval" or len(sys.argv) != 3:
    sys.exit("usage: tegrastats --interval <ms>")
interval_s = int(sys.argv[2]) / 1e3
with open({plan!r} + ".asked", "w") as f:
    f.write(sys.argv[2])
with open({plan!r}) as f:
    plan = json.load(f)
lives = {plan!r} + ".lives"
with open(lives, "a") as f:
    f.write(str(os.getpid()) + "\\n")
with open(lives) as f:
    life = len(f.read().split())
due = time.monotonic()
for count in itertools.count(1):
    time.sleep(max(0.0, due - time.monotonic()))
    due += interval_s
    line = plan["line"]
    for rail in plan["rails"]:
        step = plan["step_mw"] * (count % plan["period"]) + plan["odd_mw"] * (count % plan["odd_every"] == 0)
        step += plan["later_mw"] * (life > 1)
        shown = lambda m: m.group(1) + str(int(m.group(2)) + step)
        line = re.sub(r"(?<!\\S)(" + rail + r" +)(-?\\d+)", shown, line)
    if count == plan["dies_after"] and life <= plan["deaths"]:
        sys.stdout.write(line[: line.rindex("/") - 2])
        sys.stdout.flush()
        sys.exit(plan["code"])
    if count == plan["hangs_after"]:
        time.sleep(3600)
    if count % plan["cut_every"] == 0:
        line = line[: line.index(plan["rails"][0]) + 3]
    sys.stdout.write(line + "\\n")
    sys.stdout.flush()
"""


class FakeTegrastats:
    """The program in ``folder``, to be put on PATH; ``plan`` says what it prints and when it fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._plan = folder / "plan.json"
        program = folder / "tegrastats"
        program.write_text(SCRIPT.format(python=sys.executable, plan=str(self._plan)))
        program.chmod(0o755)

    def plays(
        self,
        line: str,
        rails: tuple[str, ...],
        *,
        step_mw: int = 41,
        period: int = 4,
        dies_after: int = 0,
        deaths: int = 1,
        hangs_after: int = 0,
        cut_every: int = 10**9,
        odd_every: int = 10**9,
        odd_mw: int = 0,
        later_mw: int = 0,
    ) -> None:
        """Print ``line`` from now on, the first of ``rails`` rising by ``step_mw`` for ``period`` lines, over again.

        Args:
            odd_every, odd_mw: one line in so many shows so much more there.
            later_mw: every line of all processes but the first shows so much more there.
        """
        plan = {
            "line": line.rstrip("\n"),
            "rails": rails[:1],
            "step_mw": step_mw,
            "period": period,
            "dies_after": dies_after,
            "deaths": deaths,
            "code": 1,
            "hangs_after": hangs_after,
            "cut_every": cut_every,
            "odd_every": odd_every,
            "odd_mw": odd_mw,
            "later_mw": later_mw,
        }
        self._plan.write_text(json.dumps(plan))

    @property
    def interval_ms(self) -> int:
        """What it was last asked for."""
        return int(Path(f"{self._plan}.asked").read_text())

    def pids(self) -> list[int]:
        """Every process of it that was ever started."""
        return [int(pid) for pid in Path(f"{self._plan}.lives").read_text().split()]
