"""What a hostile board's answers do to the host: thousands of malformed and impossible ones, asked and used.

    python benchmarks/hostile_answers.py [--examples 10000] [--seed 0]

Hypothesis draws them (``tests/hostile.py``): what an honest agent says or what fits the schema, spoilt in a few places,
in an envelope or on a wire that is spoilt too. Each is asked through the real wire and used as the commands use it.
Counted are those that end in a traceback instead of an error of ours, take over 5 s, or make the process grow by over
500 MB; and those after which a text holds signs that would steer a terminal.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from _common.peak_memory import peak_mb, reset_peak_mb
from hypothesis import HealthCheck, Phase, given, seed, settings
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the boards are the tests'

from pipeline.answers import Measured
from pipeline.errors import PipelineError
from tests.hostile_answers import VERBS, Hostile, answers, ask, plain, steers

SECONDS, MEGABYTES = 5.0, 500.0


class Tally:
    """What came of the examples so far."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.tracebacks: Counter[str] = Counter()
        self.examples = self.slow = self.large = self.unescaped = 0
        self.longest_s = self.most_mb = 0.0
        self.longest = self.largest = ""

    def take(self, said: Hostile) -> None:
        """Ask once and count what came of it."""
        before_mb, start = reset_peak_mb(), time.perf_counter()
        texts: list[str] = []
        try:
            texts, outcome = ask(said), "answered"
        except PipelineError as error:
            texts, outcome = [str(error)], type(error).__name__
        except ValueError as error:
            outcome = (
                "ValueError that the doctor shows" if said.verb not in ("hello", "measure", "verify") else "traceback"
            )
            if outcome == "traceback":
                self._note(error)
        except Exception as error:  # what the benchmark is about
            outcome = "traceback"
            self._note(error)
        seconds, grown_mb = time.perf_counter() - start, peak_mb() - before_mb
        self.examples += 1
        self.outcomes[outcome] += 1
        self.slow += seconds > SECONDS
        self.large += grown_mb > MEGABYTES
        self.unescaped += any(map(steers, texts))
        self.longest_s, self.longest = max((self.longest_s, self.longest), (seconds, said.words))
        self.most_mb, self.largest = max((self.most_mb, self.largest), (grown_mb, said.words))

    def _note(self, error: Exception) -> None:
        last = traceback.extract_tb(error.__traceback__)[-1]
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if "/pipeline/" in frame.filename]
        place = own[-1] if own else last
        self.tracebacks[f"{type(error).__name__} in {Path(place.filename).name}:{place.name}"] += 1


def validation_ms(ms: float, seconds: float = 60.0, block_s: float = 0.025) -> tuple[int, float]:
    """Return how many inferences a long measurement of a fast model holds, and how long its validation takes."""
    raw = plain("measure").result
    pairs, runs = int(seconds / block_s / 2), int(0.98e3 * block_s / ms)
    for turn, name in enumerate(("candidate", "reference")):
        starts = [10 + (2 * pair + turn) * block_s for pair in range(pairs)]
        raw[name]["blocks"] = [
            {"start_s": at, "end_s": at + block_s, "ms": [round(ms + 1e-6 * (i % 9), 6) for i in range(runs)]}
            for at in starts
        ]
    raw["power"].update(t_s=[5 + 0.02 * i for i in range(3500)], w=[2.0] * 3500)
    taken = []
    for _ in range(9):
        start = time.process_time()
        Measured.of(raw)
        taken.append(time.process_time() - start)
    return 2 * pairs * runs, 1e3 * min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    tally = Tally()

    @seed(args.seed)
    @settings(max_examples=args.examples, database=None, deadline=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(answers())
    def every(said: Hostile) -> None:
        tally.take(said)

    for verb in VERBS:  # imports take seconds and 150 MB, once
        ask(plain(verb))
    start = time.monotonic()
    every()
    show(tally, time.monotonic() - start)


def show(tally: Tally, seconds: float) -> None:
    console = Console(width=120)
    console.print(
        f"{tally.examples} answers in {seconds:.0f} s: {sum(tally.tracebacks.values())} tracebacks of "
        f"{len(tally.tracebacks)} kinds, {tally.slow} over {SECONDS:g} s (longest {tally.longest_s:.2f} s, "
        f"{tally.longest}), "
        f"{tally.large} over {MEGABYTES:g} MB (most {tally.most_mb:.0f} MB, {tally.largest}), "
        f"{tally.unescaped} not escaped"
    )
    for ms in (5.0, 1.0, 0.1):
        inferences, took_ms = validation_ms(ms)
        console.print(f"validating 60 s of {ms:g} ms, {inferences} inferences: {took_ms:.1f} ms")
    for title, counted in (("outcome", tally.outcomes), ("traceback", tally.tracebacks)):
        if counted:
            table = Table(title, "answers", box=None)
            for name, number in counted.most_common():
                table.add_row(name, str(number))
            console.print(table)


if __name__ == "__main__":
    main()
