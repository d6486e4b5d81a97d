"""Run the network of this bundle: python example.py IMAGE [IMAGE ...]

Prints the three likeliest classes of each image and the median time of one inference. Without an image it takes
random pixels, to show that the file runs. Needs what requirements.txt lists; Python 3.6 is enough.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List  # noqa: UP035 - Python 3.6

import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
TIMED = 50

Input = Dict[str, Any]  # noqa: UP006 - what manifest.json says under "input"
Network = Callable[[np.ndarray], np.ndarray]  # a batch of one image -> a batch of one row of scores


def main(paths: List[str]) -> None:  # noqa: UP006
    manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    network = NETWORKS[manifest["model"]["format"]](str(HERE / manifest["model"]["file"]))
    if not paths:
        print("no image given: these are random pixels, the answer means nothing")
        answer(network, manifest, random_image(manifest["input"]))
    for path in paths:
        print(path)
        answer(network, manifest, open_image(path, manifest["input"]))


def onnx_network(path: str) -> Network:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0]


def tflite_network(path: str) -> Network:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:  # older and 32-bit systems
        from tflite_runtime.interpreter import Interpreter
    interpreter = Interpreter(model_path=path)
    interpreter.allocate_tensors()
    place, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def network(batch: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(place, batch)
        interpreter.invoke()
        scores: np.ndarray = interpreter.get_tensor(result)
        return scores

    return network


NETWORKS = {"onnx": onnx_network, "tflite": tflite_network}


def open_image(path: str, wanted: Input) -> np.ndarray:
    """Return the image, scaled and cropped to its centre, as height x width x channels, 0 to 255."""
    channels, height, width = wanted["shape"]
    with Image.open(path) as image:
        coloured = image.convert("L" if channels == 1 else "RGB")
    # Pillow for Python 3.6 has no Image.Resampling.
    fitted = ImageOps.fit(coloured, (width, height), Image.BILINEAR)  # type: ignore[attr-defined]
    return np.asarray(fitted, dtype=np.float32).reshape(height, width, channels)


def random_image(wanted: Input) -> np.ndarray:
    channels, height, width = wanted["shape"]
    return np.random.RandomState(0).randint(0, 256, (height, width, channels)).astype(np.float32)


def normalised(image: np.ndarray, wanted: Input) -> np.ndarray:
    """Return a batch of one for the network: (pixel / 255 - mean) / std, channels first."""
    norm = wanted["normalisation"]
    scaled = (image / 255 - np.array(norm["mean"])) / np.array(norm["std"])
    batch: np.ndarray = scaled.transpose(2, 0, 1)[np.newaxis].astype(np.float32)
    return batch


def answer(network: Network, manifest: Dict[str, Any], image: np.ndarray) -> None:  # noqa: UP006
    batch = normalised(image, manifest["input"])
    scores = network(batch)[0]
    shares = np.exp(scores - scores.max())
    shares = shares / shares.sum()
    for index in np.argsort(-shares)[:3]:
        print(f"  {shares[index]:6.2%}  {manifest['classes'][index]}")
    print(f"  median of {TIMED} inferences: {median_ms(network, batch):.3f} ms")


def median_ms(network: Network, batch: np.ndarray) -> float:
    times = []
    for _ in range(TIMED):
        start = time.perf_counter()
        network(batch)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


if __name__ == "__main__":
    main(sys.argv[1:])
