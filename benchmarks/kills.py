"""Does a run that is killed at random, over and over, ask its board anything twice, and does it come to the same end?

Runs on this machine are killed (SIGKILL) at random moments and resumed until each is finished: at start, while they
train, measure, search, fine-tune. What the board answered stands in the run's recording. The same recording is then
played back without a kill, which gives what the run would have come to.
"""

from __future__ import annotations

import argparse
import collections
import math
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the way of killing is the tests'

from tests.command_line import Desk
from tests.killing import SETTINGS, answers, begin_or_resume, uninterrupted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--longest", type=float, default=12.0, help="seconds until a kill, at most")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    chance, left, twice, other = random.Random(asked.seed), asked.kills, 0, 0
    print(f"{'kill':>4} {'after':>7}  while it said", flush=True)
    moments: collections.Counter[str] = collections.Counter()
    while left:
        with tempfile.TemporaryDirectory() as name:
            desk = Desk(Path(name))
            desk.settings(**SETTINGS)
            while True:
                after = chance.uniform(0.2, asked.longest) if left else math.inf
                kill = begin_or_resume(desk, lambda _, after=after: after)  # type: ignore[misc]
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
