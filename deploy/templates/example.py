"""Run the network of this bundle: python example.py IMAGE [IMAGE ...]

Prints the three likeliest classes of each image and the median time of one inference. Without an image it takes
random pixels, to show that the file runs. Needs onnxruntime, numpy and pillow; Python 3.6 is enough.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any, Dict, List  # noqa: UP035 - Python 3.6

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
TIMED = 50

Input = Dict[str, Any]  # noqa: UP006 - what manifest.json says under "input"


def main(paths: List[str]) -> None:  # noqa: UP006
    manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(str(HERE / "model.onnx"), providers=["CPUExecutionProvider"])
    if not paths:
        print("no image given: these are random pixels, the answer means nothing")
        answer(session, manifest, random_image(manifest["input"]))
    for path in paths:
        print(path)
        answer(session, manifest, open_image(path, manifest["input"]))


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


def answer(session: Any, manifest: Dict[str, Any], image: np.ndarray) -> None:  # noqa: UP006
    feed = {manifest["input"]["name"]: normalised(image, manifest["input"])}
    scores = session.run(None, feed)[0][0]
    shares = np.exp(scores - scores.max())
    shares = shares / shares.sum()
    for index in np.argsort(-shares)[:3]:
        print(f"  {shares[index]:6.2%}  {manifest['classes'][index]}")
    print(f"  median of {TIMED} inferences: {median_ms(session, feed):.3f} ms")


def median_ms(session: Any, feed: Dict[str, np.ndarray]) -> float:  # noqa: UP006
    times = []
    for _ in range(TIMED):
        start = time.perf_counter()
        session.run(None, feed)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


if __name__ == "__main__":
    main(sys.argv[1:])
