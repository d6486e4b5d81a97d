"""Run the network of this bundle: python example.py [INPUTS.npz [OUTPUTS.npz]]

INPUTS.npz holds an array for each input in the order of manifest.json, a batch of one, as the network takes it (pixels
normalised as the manifest says); without it random values show that the file runs. Prints each output's shape and range
and the median time of one inference; OUTPUTS.npz is written with the outputs under their names. Needs what
requirements.txt lists; Python 3.6 is enough.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np

HERE = Path(__file__).resolve().parent
TIMED = 50

Network = Callable[[np.ndarray], np.ndarray]  # a batch of one -> the outputs, of a network of one input and one output


def main(paths: List[str]) -> None:
    manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    task = manifest["task"]
    network = open_all(str(HERE / manifest["model"]["file"]), task)
    inputs = read_inputs(paths[0], task) if paths else random_inputs(task)
    if not paths:
        print("no inputs given: these are random values, the answer means nothing")
    outputs = network(inputs)
    for place, output in enumerate(task["outputs"]):
        values = outputs[place]
        shape = "x".join(map(str, values.shape))
        print("  %s  %s  from %.4g to %.4g" % (output["name"], shape, values.min(), values.max()))
    if len(paths) > 1:
        held: Dict[str, Any] = {output["name"]: outputs[place] for place, output in enumerate(task["outputs"])}
        np.savez(paths[1], **held)
    print("  median of %d inferences: %.3f ms" % (TIMED, median_ms(network, inputs)))


def open_all(path: str, task: Dict[str, Any]) -> Callable[[List[np.ndarray]], List[np.ndarray]]:
    """Open a model file of any number of inputs and outputs; of more than one it is an ONNX file."""
    if len(task["inputs"]) == len(task["outputs"]) == 1:
        network = open_network(path)
        return lambda inputs: [network(inputs[0])]
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [one["name"] for one in task["inputs"]]
    return lambda inputs: list(session.run(None, {name: inputs[place] for place, name in enumerate(names)}))


def open_network(path: str) -> Network:
    """Open the model file: in a bundle the function of its format stands here."""
    raise SystemExit(f"{path}: this is what examples are made from; run the one that `pipeline pull` wrote")


def read_inputs(path: str, task: Dict[str, Any]) -> List[np.ndarray]:
    """Return the arrays of a file; refuse those of other shapes."""
    with np.load(path, allow_pickle=False) as held:
        found = [np.asarray(held[name], dtype=np.float32) for name in held.files]
    shapes, wanted = [list(one.shape) for one in found], [[1] + one["shape"] for one in task["inputs"]]
    if shapes != wanted:
        raise SystemExit("%s holds arrays of shapes %s; the network takes %s" % (path, shapes, wanted))
    return found


def random_inputs(task: Dict[str, Any]) -> List[np.ndarray]:
    random = np.random.RandomState(0)
    return [np.asarray(random.standard_normal([1] + one["shape"]), np.float32) for one in task["inputs"]]


def median_ms(network: Callable[[List[np.ndarray]], List[np.ndarray]], inputs: List[np.ndarray]) -> float:
    times = []
    for _ in range(TIMED):
        start = time.perf_counter()
        network(inputs)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


if __name__ == "__main__":
    main(sys.argv[1:])
