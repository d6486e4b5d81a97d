"""Run the network of this bundle: python example.py IMAGE [IMAGE ...]

Prints the three likeliest classes of each image and the median time of one inference. Without an image it takes
random pixels, to show that the file runs. A network of signals takes files of numbers, .npy or a table with a channel a
line, in place of images. Needs what requirements.txt lists; Python 3.6 is enough.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
TIMED = 50
LONGEST = 64

Input = Dict[str, Any]
Network = Callable[[np.ndarray], np.ndarray]  # a batch of one image -> a batch of one row of scores


def main(paths: List[str]) -> None:
    manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    network = open_network(str(HERE / manifest["model"]["file"]))
    if not paths:
        print("no image given: these are random pixels, the answer means nothing")
        answer(network, manifest, random_input(manifest["input"]))
    for path in paths:
        print(path)
        answer(network, manifest, open_input(path, manifest["input"]))


def open_network(path: str) -> Network:
    """Open the model file: in a bundle the function of its format stands here."""
    raise SystemExit(f"{path}: this is what examples are made from; run the one that `pipeline pull` wrote")


# ---------------------------------------------------------------- how an image becomes the network's input
#
# The network was trained on images that were read by these very functions: change them and it answers otherwise.


class ImageError(ValueError):
    """An image whose brightness cannot be known, so that reading it would give another picture, or none."""


def open_input(path: str, wanted: Input) -> np.ndarray:
    return open_signal(path, wanted) if len(wanted["shape"]) == 2 else open_image(path, wanted)


def open_signal(path: str, wanted: Input) -> np.ndarray:
    """Return a file of numbers, channels x samples."""
    if path.endswith(".npy"):
        values = np.load(path, allow_pickle=False)
    else:
        values = np.loadtxt(path, delimiter="," if path.endswith(".csv") else None, ndmin=2)
    signal = np.atleast_2d(np.asarray(values, dtype=np.float32))
    if list(signal.shape) != wanted["shape"]:
        raise ValueError(f"{path} holds numbers of shape {signal.shape}; the network takes {tuple(wanted['shape'])}")
    return signal


def open_image(path: str, wanted: Input) -> np.ndarray:
    """Return an image file as the network wants it, height x width x channels, 0 to 255."""
    channels, height, width = wanted["shape"]
    with Image.open(path) as image:
        coloured = as_colours(image, channels)
    how = wanted.get("interpolation", "bilinear")
    fitted = fit(coloured, width, height, resize=wanted.get("resize"), interpolation=how)
    return np.asarray(fitted, dtype=np.float32).reshape(height, width, channels)


def as_colours(image: Image.Image, channels: int) -> Image.Image:
    """Return an image of any mode as 8-bit grey (1 channel) or RGB, turned upright as its EXIF says.

    16 bits keep their upper 8, floats from 0 to 1 become 0 to 255, transparency is left out. ImageError: the range of
    its values cannot be known, or nothing of the picture would be left but black or white.
    """
    image.load()
    upright = _upright(image)
    if upright.mode[0] in "IF":  # 16 and 32 bits, floats
        upright = Image.fromarray(_eight_bits(np.asarray(upright), *_range(image)))
    elif upright.mode in ("P", "PA", "La", "RGBa"):  # whose transparency only RGBA takes in
        upright = upright.convert("RGBA")
    elif upright.mode == "LAB":  # which becomes grey by way of RGB alone
        upright = upright.convert("RGB")
    colours = upright.convert("L" if channels == 1 else "RGB")
    if upright.mode in ("LA", "RGBA"):
        _refuse_hidden(colours, upright)
    return colours


def fit(image: Image.Image, width: int, height: int, resize: Optional[int], interpolation: str) -> Image.Image:
    """Scale an image and crop it to its centre.

    ``resize``: its shorter side becomes so long first, as torchvision's Resize does; None: it just covers the shape.
    """
    # Pillow for Python 3.6 has no Image.Resampling.
    method = getattr(Image, interpolation.upper())
    if resize is None:
        return ImageOps.fit(image, (width, height), method)
    reach = LONGEST * min(image.size)  # the ends of a longer strip would only be scaled to be cut off
    if max(image.size) > reach:
        image = _centre(image, min(image.width, reach), min(image.height, reach))
    shorter, longer = sorted(image.size)
    scaled = (resize, int(resize * longer / shorter))
    return _centre(image.resize(scaled if image.width <= image.height else scaled[::-1], method), width, height)


def _centre(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = round((image.width - width) / 2.0), round((image.height - height) / 2.0)
    return image.crop((left, top, left + width, top + height))


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(0x0112, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except Exception:  # an EXIF that cannot be read says nothing
        return image


def _range(image: Image.Image) -> Tuple[float, bool]:
    """Return the value that is white, and whether it counts from white to black, which Pillow turns round only for L.

    A TIFF says how many of 16 bits are used; integers of 32 bits are taken for 16, where they are within that.
    """
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(258, (16,))[0]
    white = 1.0 if image.mode == "F" else 2.0 ** (bits if 8 < bits < 16 else 16) - 1
    return white, tags.get(262) == 0


def _eight_bits(values: np.ndarray, white: float, inverted: bool) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= white:  # also where one of them is no number
        raise ImageError(
            f"its values reach from {low:g} to {high:g}, and what of them is white is not known; expected 0 to "
            f"{white:g}: save it with 8 or 16 bits"
        )
    if white == 1:
        pixels = np.rint(values * 255.0).astype(np.uint8)
    else:
        pixels = (values.astype(np.int32) // ((int(white) + 1) // 256)).astype(np.uint8)
    if pixels.max() == 0 < high or (pixels.min() == 255 and low < white):
        raise ImageError(
            f"its values reach from {low:g} to {high:g}, which is all {'white' if pixels.min() else 'black'} where "
            f"{white:g} is white; spread them from 0 to {white:g}, or save it with 8 bits"
        )
    inverse: np.ndarray = 255 - pixels if inverted else pixels
    return inverse


def _refuse_hidden(colours: Image.Image, transparent: Image.Image) -> None:
    """Refuse a picture that is drawn in the transparency alone, over black or white."""
    extrema = colours.getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else [extrema]
    faint, opaque = transparent.getextrema()[-1]  # type: ignore[misc]
    if faint != opaque and (all(b == (0, 0) for b in bands) or all(b == (255, 255) for b in bands)):
        raise ImageError(f"its colours are all {bands[0][0]}, it is drawn in its transparency; save it without")


# ---------------------------------------------------------------- the answer


def random_input(wanted: Input) -> np.ndarray:
    random = np.random.RandomState(0)
    if len(wanted["shape"]) == 2:
        return np.asarray(random.standard_normal(wanted["shape"]), np.float32)
    channels, height, width = wanted["shape"]
    return np.asarray(random.randint(0, 256, (height, width, channels)), np.float32)


def normalised(values: np.ndarray, wanted: Input) -> np.ndarray:
    """Return a batch of one for the network, channels first: (value - mean) / std, of pixels in 0 to 1."""
    norm = wanted["normalisation"]
    if len(wanted["shape"]) == 3:
        values = values.transpose(2, 0, 1) / 255
    mean, std = (np.array(norm[name]).reshape([-1] + [1] * (values.ndim - 1)) for name in ("mean", "std"))
    batch: np.ndarray = ((values - mean) / std)[np.newaxis].astype(np.float32)
    return batch


def answer(network: Network, manifest: Dict[str, Any], image: np.ndarray) -> None:
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
