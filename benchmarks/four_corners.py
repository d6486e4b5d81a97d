"""Base and pruned network, each in float32 and INT8, as whole runs come to them: accuracy, latency, size.

    python benchmarks/four_corners.py --net resnet20=FILE --data cifar10:DIR --target 0.3 --epochs 20
    python benchmarks/four_corners.py --net mobilenet_v2 --data tiny-imagenet:DIR --device local --device tflite

Each is one `pipeline run` with INT8 on a registered device (another runtime on this machine is a device of its own in
inventory.yaml). Without weights the network is trained first; a second device takes what the first has trained. A run
that was stopped goes on, one that is finished is read.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from _common.results import table

from pipeline.report.corners import corners
from pipeline.store import Store
from pipeline.store.facts import BASE, BASE_WEIGHTS, PRECISION
from pipeline.store.runs import FINISHED


def main() -> None:
    """Run what is missing, print the table."""
    asked = _arguments()
    rows = []
    for net in asked.net:
        model, _, weights = net.partition("=")
        for device in asked.device:
            folder = asked.runs / f"{model}-{device}"
            weights = weights or _trained_before(asked, model)
            _run(asked, model, weights, device, folder)
            rows += _rows(model, device, folder)
    print(table(("network", "device", "as", "test accuracy", "latency", "model file"), rows), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="as for pipeline run")
    parser.add_argument("--net", action="append", required=True, metavar="MODEL[=FILE]", help="several times")
    parser.add_argument("--device", action="append", help="registered; several times; default: local")
    parser.add_argument("--inventory", type=Path, help="as for pipeline run")
    parser.add_argument("--config", type=Path, help="as for pipeline run")
    parser.add_argument("--target", type=float, default=0.3, help="share of the float32 base's latency")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", default="20", help="of the chosen network; or auto")
    parser.add_argument("--runs", type=Path, default=Path("runs-corners"))
    asked = parser.parse_args()
    asked.device = asked.device or ["local"]
    return asked


def _run(asked: argparse.Namespace, model: str, weights: str, device: str, folder: Path) -> None:
    """See the run of one network on one device through."""
    command = [sys.executable, "-m", "pipeline", "run", "--runs", str(folder)]
    if (known := _newest(folder)) is not None:
        if known[1] == FINISHED:
            return
        command += ["--resume", known[0]]
    else:
        command += [
            "--data", asked.data, "--model", model, "--device", device, "--precision", "int8",
            "--target", f"latency={asked.target}x", "--trials", str(asked.trials), "--epochs", asked.epochs,
            *(["--weights", weights] if weights else []), *(["--config", str(asked.config)] if asked.config else []),
        ]  # fmt: skip
    if asked.inventory:
        command += ["--inventory", str(asked.inventory)]
    subprocess.run(command, check=True)


def _newest(folder: Path) -> tuple[str, str] | None:
    """Return the newest run's id and status."""
    for path in sorted(folder.glob("*/"), reverse=True):
        with Store.open(folder, path.name) as store:
            return store.id, store.status
    return None


def _trained_before(asked: argparse.Namespace, model: str) -> str:
    """Return the file of the base model's weights that a run on another device has trained; empty: there is none."""
    for device in asked.device:
        folder = asked.runs / f"{model}-{device}"
        if (known := _newest(folder)) is not None and known[1] == FINISHED:
            with Store.open(folder, known[0]) as store:
                trained = asked.runs / f"{model}.safetensors"
                shutil.copy(store.blob(store.required(BASE_WEIGHTS)), trained)
                return str(trained)
    return ""


def _rows(model: str, device: str, folder: Path) -> list[tuple[str, ...]]:
    """Return a row for each corner."""
    found = _newest(folder)
    assert found is not None
    with Store.open(folder, found[0]) as store:
        chosen = next(artifact for artifact in store.artifacts() if artifact.chosen)
        of = corners(store.required(BASE), store.get(PRECISION), chosen)
    return [(model, device, one.network, one.accuracy, one.latency, one.size) for one in of]


if __name__ == "__main__":
    main()
