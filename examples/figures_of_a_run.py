"""What a run found, as plain values for a notebook.

python examples/figures_of_a_run.py [RUNS] [RUN]
"""

from __future__ import annotations

import sys
from pathlib import Path

import pipeline


def main(runs: Path, name: str) -> None:
    """Print each trial, and the chosen network beside the base model."""
    with pipeline.open_run(name, runs=runs) as run:
        best = {trial.index for trial in run.pareto()}
        for trial in run.trials():
            if trial.candidate is None or trial.measurement is None or trial.measurement.ratio is None:
                continue
            ratio = trial.measurement.ratio
            mark = " on the Pareto front" if trial.index in best else ""
            print(f"{trial.index:3} {trial.candidate.accuracy:.1%} {ratio.value:.3f}x ± {ratio.half_width:.3f}{mark}")
        for artifact in run.artifacts():
            if artifact.chosen:
                print(f"chosen: {artifact.id}, {artifact.after.parameters:,} parameters")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs"), sys.argv[2] if len(sys.argv) > 2 else "latest")
