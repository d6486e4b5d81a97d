"""What deciding precision and levels together is worth: `pipeline run` with INT8, without, and INT8 alone.

python benchmarks/precision.py --data cifar10:DIR --model resnet20 --weights FILE --targets 0.5 0.35 0.25

Each is a whole `pipeline run` on the local device with as many trials; targets are shares of the float32 base's
latency. INT8 alone is the uncut INT8 network, which every run with INT8 measures as its trial 0.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    """One run's end: latency over the float32 base's, and test accuracy; None: no candidate met the target."""

    latency: float | None
    accuracy: float | None


def main() -> None:
    """Run each, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--targets", type=float, nargs="+", default=[0.5, 0.35, 0.25])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--epochs", type=float, default=3.0, help="of fine-tuning the chosen one")
    parser.add_argument("--runs", type=Path, default=Path("runs-precision"))
    asked = parser.parse_args()
    print("| target | levels and precision | levels alone (float32) | INT8 alone |")
    print("|---|---|---|---|")
    for target in asked.targets:
        both = [run(asked, target, "int8", seed) for seed in range(asked.seeds)]
        alone = [run(asked, target, "float32", seed) for seed in range(asked.seeds)]
        corner = uncut(asked.runs)
        print(f"| {target}× | {cell(both)} | {cell(alone)} | {corner} |", flush=True)


def run(asked: argparse.Namespace, target: float, precision: str, seed: int) -> Result:
    """Return what a run came to."""
    command = [
        sys.executable, "-m", "pipeline", "run", "--data", asked.data, "--model", asked.model,
        "--weights", asked.weights,
        "--target", f"latency={target}x", "--precision", precision, "--seed", str(seed), "--trials", str(asked.trials),
        "--epochs", str(asked.epochs), "--runs", str(asked.runs), "--json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(done.stderr.splitlines()[-1], file=sys.stderr)
        return Result(None, None)
    found = json.loads(done.stdout)
    (chosen,) = [artifact for artifact in found["artifacts"] if artifact["chosen"]]
    return Result(chosen["after"]["measurement"]["ratio"]["value"], chosen["after"]["test_accuracy"])


def uncut(runs: Path) -> str:
    """Return the uncut INT8 network's latency and test accuracy, of the newest run that has it."""
    command = [sys.executable, "-m", "pipeline", "runs", "show", "--json", "--runs", str(runs)]
    for path in sorted(runs.iterdir(), reverse=True):
        found: dict[str, Any] = json.loads(
            subprocess.run([*command, path.name], capture_output=True, check=True).stdout
        )
        base = (found.get("precision") or {}).get("base")
        if base and base["test_accuracy"] is not None:
            ratio = base["measurement"]["ratio"]
            return f"{base['test_accuracy']:.2%} at {ratio['value']:.3f}× [{ratio['low']:.3f}, {ratio['high']:.3f}]"
    return "not measured"


def cell(results: list[Result]) -> str:
    """Return mean test accuracy and latency, and how many runs met the target."""
    met = [(one.accuracy, one.latency) for one in results if one.accuracy is not None and one.latency is not None]
    if not met:
        return "no run met it"
    accuracy = statistics.fmean(a for a, _ in met)
    error = statistics.stdev(a for a, _ in met) / len(met) ** 0.5 if len(met) > 1 else 0.0
    latency = statistics.fmean(latency for _, latency in met)
    return f"{100 * accuracy:.2f} ± {100 * error:.2f} % at {latency:.3f}× ({len(met)} of {len(results)})"


if __name__ == "__main__":
    main()
