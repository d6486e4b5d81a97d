"""Does a run that is killed at random, over and over, ask its board anything twice, and does it come to the same end?

Runs on this machine are killed (SIGKILL) at random moments and resumed until each is finished: at start, while they
train, measure, search, fine-tune. What the board answered stands in the run's recording. The same recording is then
played back without a kill, which gives what the run would have come to.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import math
import os
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the way of killing is the tests'

from tests.command_line import Desk
from tests.killing import SETTINGS, answers, begin_or_resume, uninterrupted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--lines", type=int, default=25, help="of progress until a kill, at most")
    parser.add_argument("--longest", type=float, default=2.0, help="seconds from that line to the kill, at most")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    chance, left, twice, other = random.Random(asked.seed), asked.kills, 0, 0
    print(f"{'kill':>4} {'after':>7}  while it said", flush=True)
    moments: collections.Counter[str] = collections.Counter()
    while left:
        with tempfile.TemporaryDirectory() as name:
            os.environ["PIPELINE_LOCK_DIR"] = name  # whoever else measures on this machine is not waited for
            desk = Desk(Path(name) / "desk")
            desk.settings(**SETTINGS)
            while True:
                kill = begin_or_resume(desk, _moment(chance, asked) if left else lambda _: math.inf)
                if kill is None:
                    break
                left -= 1
                moments[_kind(kill.stage)] += 1
                print(f"{asked.kills - left:>4} {kill.after_s:>5.1f} s  {kill.stage[:70]}", flush=True)
            found = answers(desk)
            killed, whole = uninterrupted(desk)
            twice, other = twice + found.twice, other + (killed != whole)
            print(f"finished: {found.answered} answers of the board, {found.twice} of them asked for twice; "
                  f"{'the same' if killed == whole else 'ANOTHER'} result as without a kill", flush=True)  # fmt: skip
    print(f"{asked.kills} kills ({', '.join(f'{count} {kind}' for kind, count in moments.most_common())}): "
          f"{twice} asked twice, {other} other results")  # fmt: skip


def _moment(chance: random.Random, asked: argparse.Namespace) -> Callable[[str], float]:
    """Return when a run is killed: some time after some line of its progress."""
    left, after = chance.randrange(asked.lines), chance.uniform(0.0, asked.longest)
    lines = itertools.count()
    return lambda _: after if next(lines) >= left else math.inf


def _kind(stage: str) -> str:
    """Return what a run was doing when it said this."""
    kinds = {
        "start-up": ("Load", "Connect", "Write the network", "run "), "training": ("Train", "Fine-tune", "Cut"),
        "search": ("Search", "trial"),
    }  # fmt: skip
    found = (kind for kind, words in kinds.items() if not stage or stage.lstrip().startswith(words))
    return next(found, "measuring")


if __name__ == "__main__":
    main()
