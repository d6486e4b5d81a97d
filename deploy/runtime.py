"""The runtime library of a bundle: one file that opens its network and feeds it as it was trained.

    from runtime import Model

    model = Model.open("my-model")
    print(model.predict("photo.jpg").label)

Needs Python 3.6, numpy and the package of the bundle's runtime; Pillow where images come as files or have another size
than the network takes. A network that puts nothing into classes is given arrays: ``model.run(arrays)``. ``python
runtime.py self-test`` runs the stored inputs and compares the answers with the stored.
"""

import hashlib
import json
import os
import re
import stat
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

try:
    from PIL import Image, ImageOps
except ImportError:  # arrays of the network's own size are taken all the same
    Image = ImageOps = None  # type: ignore[assignment]

MANIFEST, CHECKSUMS, SIGNATURE = "manifest.json", "SHA256SUMS", "model.sig"
LONGEST = 64
MOST_FILES = 64
MOST_BYTES = 4 * 1024**3
"""Of all files of a bundle together."""
MOST_MANIFEST_BYTES = 16 * 1024**2
WORKSPACE_BYTES = 256 * 1024**2
"""GPU memory that a layer may take while TensorRT builds an engine."""
MODES = 0o644
"""What a file's mode may hold: whoever else may write to it, could change what runs."""

Input = Dict[str, Any]
Task = Dict[str, Any]
Network = Callable[[np.ndarray], np.ndarray]  # a batch of one image -> a batch of one row of scores


class Prediction(NamedTuple):
    """The answer to one image."""

    label: str
    """The likeliest class."""
    probability: float
    """Its softmax."""
    probabilities: np.ndarray
    """Of all classes, in the order of labels.txt."""
    scores: np.ndarray
    """The network's own outputs."""


class Model:
    """An open network, with what its manifest says of it."""

    def __init__(self, manifest: Dict[str, Any], network: Network) -> None:
        self.manifest = manifest
        self.input = manifest["input"]  # type: Input
        self.task = manifest.get("task")  # type: Optional[Task]
        self.classes = [str(name) for name in manifest["classes"]]
        self._network = network

    @classmethod
    def open(cls, folder: Any, runtime: Optional[str] = None, verify: bool = True) -> "Model":
        """Open a bundle's folder.

        ``runtime``: onnxruntime, tflite or tensorrt; None: the one that the model file is made for. ``verify``: compare
        every file with its checksum first. Raises BundleError where a file is not as it was written.
        """
        place = Path(os.path.realpath(str(folder)))  # a link may lead to another version by the time of the next file
        manifest = verified(place) if verify else read_manifest(place)
        return cls(manifest, opened(str(place / plain_name(manifest["model"]["file"])), manifest, runtime))

    def predict(self, image: Any) -> Prediction:
        """Return the answer to an image: a file's path, a Pillow image, or an array, height x width (x channels).

        Arrays are 8-bit pixels. A network of signals takes files of numbers, or arrays, channels x samples.
        """
        return self.answer(self.read(image))

    def read(self, image: Any) -> np.ndarray:
        """Return an image as the network takes it: a batch of one, scaled, cropped and normalised."""
        return normalised(as_input(image, self.input), self.input)

    def run(self, inputs: List[np.ndarray]) -> Dict[str, np.ndarray]:
        """Return the outputs by their names, of a network that puts nothing into classes.

        ``inputs``: an array for each input in the manifest's order, a batch of one, as the network takes it; ``read``
        makes one of an image. What the outputs mean, the task's postprocess says.
        """
        if self.task is None:
            raise ValueError("this network puts images into classes: call predict(image)")
        require_fit(inputs, self.task, "the arrays")
        found = self._network(packed([np.asarray(one, np.float32) for one in inputs]))
        outputs = self.task["outputs"]
        return dict(zip([one["name"] for one in outputs], unpacked(found, outputs)))

    def answer(self, batch: np.ndarray) -> Prediction:
        """Return the answer to what ``read`` returned."""
        if self.task is not None:
            raise ValueError(
                "this network, of task %s, puts nothing into classes: call run(inputs)" % self.task["name"]
            )
        scores = self._network(batch)[0]
        shares = np.exp(scores - scores.max())
        shares = shares / shares.sum()
        best = int(shares.argmax())
        return Prediction(self.classes[best], float(shares[best]), shares, scores)

    def median_ms(self, batch: Any, count: int = 50) -> float:
        """Return the median time of ``count`` inferences; of the inputs of ``run``, too."""
        batch = packed(batch) if isinstance(batch, list) else batch
        times = []
        for _ in range(count):
            start = time.perf_counter()
            self._network(batch)
            times.append(time.perf_counter() - start)
        return 1000 * float(np.median(times))


def as_input(image: Any, wanted: Input) -> np.ndarray:
    """Return whatever shows an image as the network wants it, height x width x channels, 0 to 255; or a signal."""
    if isinstance(image, (str, os.PathLike)):
        return open_input(str(image), wanted)
    if len(wanted["shape"]) == 2:
        return as_signal(image, wanted, "the array")
    if not isinstance(image, np.ndarray):
        return fitted(image, wanted)
    channels, height, width = wanted["shape"]
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise ImageError(
            "an array of %s and shape %s; expected 8-bit pixels, height x width x channels" % (image.dtype, image.shape)
        )
    pixels = image[..., np.newaxis] if image.ndim == 2 else image
    if pixels.shape == (height, width, channels):
        return pixels.astype(np.float32)
    needs_pillow()
    return fitted(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), wanted)


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
    return as_signal(values, wanted, path)


def as_signal(values: Any, wanted: Input, shown: str) -> np.ndarray:
    """Return numbers as a signal of the network's shape."""
    signal = np.atleast_2d(np.asarray(values, dtype=np.float32))
    if list(signal.shape) != wanted["shape"]:
        raise ValueError(f"{shown} holds numbers of shape {signal.shape}; the network takes {tuple(wanted['shape'])}")
    return signal


def open_image(path: str, wanted: Input) -> np.ndarray:
    """Return an image file as the network wants it, height x width x channels, 0 to 255."""
    needs_pillow()
    with Image.open(path) as image:
        return fitted(image, wanted)


def needs_pillow() -> None:
    if Image is None:
        raise ImageError("reading and scaling images needs Pillow: python3 -m pip install pillow")


def fitted(image: "Image.Image", wanted: Input) -> np.ndarray:
    """Return a Pillow image of any mode and size as the network wants it."""
    needs_pillow()
    channels, height, width = wanted["shape"]
    how = wanted.get("interpolation", "bilinear")
    sized = fit(as_colours(image, channels), width, height, resize=wanted.get("resize"), interpolation=how)
    return np.asarray(sized, dtype=np.float32).reshape(height, width, channels)


def as_colours(image: "Image.Image", channels: int) -> "Image.Image":
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


def fit(image: "Image.Image", width: int, height: int, resize: Optional[int], interpolation: str) -> "Image.Image":
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


def _centre(image: "Image.Image", width: int, height: int) -> "Image.Image":
    left, top = round((image.width - width) / 2.0), round((image.height - height) / 2.0)
    return image.crop((left, top, left + width, top + height))


def _upright(image: "Image.Image") -> "Image.Image":
    try:
        turned = image.getexif().get(0x0112, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except Exception:  # an EXIF that cannot be read says nothing
        return image


def _range(image: "Image.Image") -> Tuple[float, bool]:
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


def _refuse_hidden(colours: "Image.Image", transparent: "Image.Image") -> None:
    """Refuse a picture that is drawn in the transparency alone, over black or white."""
    extrema = colours.getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else [extrema]
    faint, opaque = transparent.getextrema()[-1]  # type: ignore[misc]
    if faint != opaque and (all(b == (0, 0) for b in bands) or all(b == (255, 255) for b in bands)):
        raise ImageError(f"its colours are all {bands[0][0]}, it is drawn in its transparency; save it without")


def open_arrays(path: str, task: Task) -> List[np.ndarray]:
    """Return the arrays of an .npz, one for each input; refuse those of other shapes."""
    with np.load(path, allow_pickle=False) as held:
        found = [np.asarray(held[name], dtype=np.float32) for name in held.files]
    require_fit(found, task, path)
    return found


def require_fit(arrays: List[np.ndarray], task: Task, shown: str) -> None:
    shapes, wanted = [list(np.shape(one)) for one in arrays], [[1] + one["shape"] for one in task["inputs"]]
    if shapes != wanted:
        raise ValueError("%s: arrays of shapes %s; the network takes %s" % (shown, shapes, wanted))


def random_arrays(task: Task) -> List[np.ndarray]:
    random = np.random.RandomState(0)
    return [np.asarray(random.standard_normal([1] + one["shape"]), np.float32) for one in task["inputs"]]


def packed(arrays: List[np.ndarray]) -> np.ndarray:
    """Return several arrays as rows, one an example: each flattened, one after the other; a single one stays."""
    if len(arrays) == 1:
        return arrays[0]
    rows: np.ndarray = np.concatenate([one.reshape(len(one), -1) for one in arrays], axis=1)
    return rows


def unpacked(rows: np.ndarray, ends: List[Dict[str, Any]]) -> List[np.ndarray]:
    """Return what ``packed`` made into one, by the manifest's entries of inputs or outputs."""
    sizes = [int(np.prod(end["shape"])) for end in ends]
    parts = np.split(rows.reshape(len(rows), -1), np.cumsum(sizes)[:-1], axis=1)
    return [np.ascontiguousarray(part).reshape([len(rows)] + end["shape"]) for part, end in zip(parts, ends)]


def random_input(wanted: Input) -> np.ndarray:
    random = np.random.RandomState(0)
    if len(wanted["shape"]) == 2:
        return np.asarray(random.standard_normal(wanted["shape"]), np.float32)
    channels, height, width = wanted["shape"]
    return np.asarray(random.randint(0, 256, (height, width, channels)), np.uint8)


def normalised(values: np.ndarray, wanted: Input) -> np.ndarray:
    """Return a batch of one for the network, channels first: (value - mean) / std, of pixels in 0 to 1."""
    norm = wanted["normalisation"]
    if len(wanted["shape"]) == 3:
        values = values.transpose(2, 0, 1) / 255
    mean, std = (np.array(norm[name]).reshape([-1] + [1] * (values.ndim - 1)) for name in ("mean", "std"))
    batch: np.ndarray = ((values - mean) / std)[np.newaxis].astype(np.float32)
    return batch


# ---------------------------------------------------------------- whether the files are what was written


class BundleError(ValueError):
    """A file of a bundle is not as it was written; names it."""


def verified(folder: Path) -> Dict[str, Any]:
    """Return the manifest of a folder whose files are all there, all as they were written, and no others.

    Looks at names, kinds, modes and sizes before it reads anything. A signature is not looked at: this says that the
    files belong together, not who made them. Raises BundleError.
    """
    found = _entries(folder)
    manifest = read_manifest(folder)
    files = manifest["files"]
    own = {MANIFEST} | {name for key, name in (("checksums", CHECKSUMS), ("signature", SIGNATURE)) if key in manifest}
    problems = _wrong_manifest(folder) if CHECKSUMS in found else []  # what it says of others may be what was changed
    problems += ["%s is missing" % name for name in sorted((set(files) | own) - set(found))]
    problems += ["%s is no file of this bundle" % name for name in sorted(set(found) - set(files) - own)]
    problems += [
        "%s differs: it has %d bytes, not %s" % (name, found[name].st_size, files[name]["bytes"])
        for name in sorted(set(files) & set(found))
        if found[name].st_size != files[name]["bytes"]
    ]
    if "checksums" in manifest:
        problems += [
            "%s has mode %04o, which lets others change it, or run it: chmod 644" % (name, mode)
            for name, mode in sorted((name, stat.S_IMODE(of.st_mode)) for name, of in found.items())
            if mode & ~MODES or not mode & 0o400
        ]
    if not problems:
        problems = [
            "%s differs" % name for name in sorted(files) if file_sha256(folder / name) != files[name]["sha256"]
        ]
        problems = problems or _wrong_checksums(folder, manifest)
    if problems:
        more = ["and %d more" % (len(problems) - 5)] * (len(problems) > 5)
        raise BundleError("%s is not as it was written: %s" % (folder, ", ".join(problems[:5] + more)))
    return manifest


def read_manifest(folder: Path) -> Dict[str, Any]:
    """Return the manifest where it makes sense; the files are not looked at."""
    try:
        with open(str(folder / MANIFEST), "rb") as stream:
            text = stream.read(MOST_MANIFEST_BYTES + 1)
        if len(text) > MOST_MANIFEST_BYTES:
            raise ValueError("it has more than %d bytes" % MOST_MANIFEST_BYTES)
        manifest = json.loads(text.decode("utf-8"))  # type: Dict[str, Any]
        for name, entry in manifest["files"].items():
            plain_name(name)
            if not isinstance(entry["bytes"], int) or not re.match("[0-9a-f]{64}$", entry["sha256"]):
                raise ValueError("the entry of %s" % name)
        if manifest["model"]["file"] not in manifest["files"]:
            raise ValueError("the model file %r is not among its files" % manifest["model"]["file"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        said = "%s: %s" % (type(error).__name__, error)
        raise BundleError("%s is no bundle: its %s cannot be read (%.200s)" % (folder, MANIFEST, said))
    return manifest


def plain_name(name: str) -> str:
    """Return a file's name that stays inside its folder; raise ValueError for any other."""
    if not re.match(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}$", name) or name in (MANIFEST, CHECKSUMS, SIGNATURE):
        raise ValueError("%.100r is no file's name" % name)
    return name


def checksums(folder: Path, names: List[str]) -> str:
    """Return the lines that ``sha256sum -c`` reads."""
    return "".join("%s  %s\n" % (file_sha256(folder / name), name) for name in sorted(names))


def _entries(folder: Path) -> Dict[str, os.stat_result]:
    """Return what lies in a folder; BundleError for anything but files, too many, or too large."""
    found = {}  # type: Dict[str, os.stat_result]
    try:
        with os.scandir(str(folder)) as entries:
            for entry in entries:
                found[entry.name] = entry.stat(follow_symlinks=False)
                if len(found) > MOST_FILES:
                    raise BundleError("%s is no bundle: it holds more than %d files" % (folder, MOST_FILES))
    except OSError as error:
        raise BundleError("%s is no bundle: %s" % (folder, error.strerror))
    if MANIFEST not in found:
        raise BundleError("%s is no bundle: it holds no %s" % (folder, MANIFEST))
    odd = sorted(name for name, status in found.items() if not stat.S_ISREG(status.st_mode))
    if odd:
        kind = "a link" if stat.S_ISLNK(found[odd[0]].st_mode) else "no file"
        raise BundleError("%s is not as it was written: %r is %s" % (folder, odd[0], kind))
    if sum(status.st_size for status in found.values()) > MOST_BYTES:
        largest = max(found, key=lambda name: found[name].st_size)
        raise BundleError(
            "%s has more than %d bytes, %r alone %d" % (folder, MOST_BYTES, largest, found[largest].st_size)
        )
    return found


def _wrong_manifest(folder: Path) -> List[str]:
    """Return whether the list of checksums knows another manifest, or none."""
    with open(str(folder / CHECKSUMS), "rb") as stream:
        lines = stream.read(MOST_MANIFEST_BYTES).decode("utf-8", "replace").splitlines()
    known = [line for line in lines if line.endswith("  %s" % MANIFEST)]
    if known == ["%s  %s" % (file_sha256(folder / MANIFEST), MANIFEST)]:
        return []
    return ["%s differs from what %s says" % (MANIFEST, CHECKSUMS)] if known else ["%s differs" % CHECKSUMS]


def _wrong_checksums(folder: Path, manifest: Dict[str, Any]) -> List[str]:
    """Return whether the list of checksums says otherwise than the manifest."""
    if "checksums" not in manifest:
        return []
    with open(str(folder / CHECKSUMS), "rb") as stream:
        found = stream.read(MOST_MANIFEST_BYTES).decode("utf-8", "replace")
    wanted = checksums(folder, list(manifest["files"]) + [MANIFEST])
    return [] if found == wanted else ["%s differs" % CHECKSUMS]


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(str(path), "rb") as stream:
        for chunk in iter(lambda: stream.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


# ---------------------------------------------------------------- what runs the model file


def opened(path: str, manifest: Dict[str, Any], runtime: Optional[str] = None) -> Network:
    """Open a bundle's model file; a network of several inputs or outputs takes and gives rows, see ``packed``."""
    task = manifest.get("task")
    if task is None or len(task["inputs"]) == len(task["outputs"]) == 1:
        return opener(runtime)(path)
    if runtime not in (None, "onnxruntime") or not path.endswith(".onnx"):
        raise ValueError(
            "%s has %d inputs and %d outputs; of several, ONNX Runtime alone is known here"
            % (os.path.basename(path), len(task["inputs"]), len(task["outputs"]))
        )
    return open_rows(path, task)


def open_rows(path: str, task: Task) -> Network:
    """Open an ONNX file of several inputs or outputs with ONNX Runtime, on the processor."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names, outputs = [[end["name"] for end in task[ends]] for ends in ("inputs", "outputs")]
    return lambda rows: packed(session.run(outputs, dict(zip(names, unpacked(rows, task["inputs"])))))


def opener(runtime: Optional[str]) -> Callable[[str], Network]:
    """Return what opens a model file with a runtime; None: with the one that it is made for."""
    known = {"onnxruntime": open_onnx, "tflite": open_tflite, "tensorrt": open_tensorrt}
    if runtime is None:
        return open_network
    if runtime not in known:
        raise ValueError("there is no runtime %r; known: %s" % (runtime, ", ".join(sorted(known))))
    return known[runtime]


def open_network(path: str) -> Network:
    """Open a model file by its ending; in a bundle of a format of one's own, that format's function stands here."""
    known = {"onnx": open_onnx, "tflite": open_tflite}
    ending = path.rpartition(".")[2]
    if ending not in known:
        raise ValueError("%s: nothing here opens .%s files" % (path, ending))
    return known[ending](path)


def open_onnx(path: str) -> Network:
    """Open the file with ONNX Runtime, on the processor."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0]


def open_tflite(path: str) -> Network:
    """Open the file with LiteRT, or with tflite-runtime on older and 32-bit systems."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tflite_runtime.interpreter import Interpreter
    interpreter = Interpreter(model_path=path)
    interpreter.allocate_tensors()
    place, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def network(batch: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(place, batch)
        interpreter.invoke()
        scores = interpreter.get_tensor(result)  # type: np.ndarray
        return scores

    return network


def open_tensorrt(path: str) -> Network:
    """Build an engine of the ONNX file for this GPU, and run it; TensorRT 8.0 to 10.x.

    Building takes seconds to minutes. The engine is code for this very board, so it is kept in the user's own cache,
    named by the file's content, TensorRT's version and the GPU, and never travels in a bundle.
    """
    import tensorrt as trt

    cuda = _Cuda()
    logger = trt.Logger(trt.Logger.WARNING)
    engine = trt.Runtime(logger).deserialize_cuda_engine(_engine(trt, logger, path, cuda.name()))
    if engine is None:
        raise RuntimeError("TensorRT cannot load the engine that it built of %s" % path)
    context = engine.create_execution_context()
    named = hasattr(engine, "num_io_tensors")  # from 8.5 on; the numbered bindings are gone in 10
    if named:
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        shapes = [tuple(engine.get_tensor_shape(name)) for name in names]
    else:
        names = [engine[number] for number in range(engine.num_bindings)]
        inputs = [name for name in names if engine.binding_is_input(name)]
        shapes = [tuple(engine.get_binding_shape(name)) for name in names]
    arrays = [cuda.host_array([1 if length < 0 else length for length in shape]) for shape in shapes]
    places = [cuda.allocate(array.nbytes) for array in arrays]
    if named:
        for name, place in zip(names, places):
            context.set_tensor_address(name, place)
    fed, given = names.index(inputs[0]), next(number for number, name in enumerate(names) if name not in inputs)
    stream = cuda.stream()

    def network(batch: np.ndarray) -> np.ndarray:
        arrays[fed][...] = batch
        cuda.copy(places[fed], arrays[fed].ctypes.data, arrays[fed].nbytes, 1, stream)
        done = context.execute_async_v3(stream) if named else context.execute_async_v2(places, stream)
        if not done:
            raise RuntimeError("TensorRT: the inference failed")
        cuda.copy(arrays[given].ctypes.data, places[given], arrays[given].nbytes, 2, stream)
        cuda.wait(stream)
        return arrays[given].copy()

    return network


def _engine(trt: Any, logger: Any, path: str, gpu: str) -> bytes:
    """Return the engine of a file: the one that this board built before, or a new one."""
    folder = Path(os.path.expanduser("~/.cache/edge-pruning-engines"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = os.lstat(str(folder))
    if status.st_uid != os.geteuid() or status.st_mode & 0o022 or not stat.S_ISDIR(status.st_mode):
        raise RuntimeError("others may write to %s, where engines are kept, which are code: chmod 700" % folder)
    identity = "%s %s %s" % (file_sha256(Path(path)), trt.__version__, gpu)
    kept = folder / (hashlib.sha256(identity.encode("utf-8")).hexdigest() + ".engine")
    if kept.exists():
        return kept.read_bytes()
    builder = trt.Builder(logger)
    flag = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(Path(path).read_bytes()):
        raise RuntimeError("TensorRT cannot read %s: %s" % (path, parser.get_error(0)))
    config = builder.create_builder_config()
    if hasattr(config, "set_memory_pool_limit"):  # 8.4 and later
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    else:
        config.max_workspace_size = WORKSPACE_BYTES
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise MemoryError("TensorRT's builder gave no engine for %s" % path)
    part = folder / (".part-%d" % os.getpid())
    part.write_bytes(bytes(engine))
    part.replace(kept)
    return bytes(engine)


class _Cuda:
    """CUDA's runtime library by ctypes: a Jetson has the library, and no pycuda."""

    def __init__(self) -> None:
        import ctypes

        self._c = ctypes
        self._library = self._open()
        self._library.cudaGetErrorString.restype = ctypes.c_char_p

    def _open(self) -> Any:
        for name in (
            "libcudart.so.13",
            "libcudart.so.12",
            "libcudart.so.11.0",
            "libcudart.so.10.2",
            "libcudart.so",
            "/usr/local/cuda/lib64/libcudart.so",
        ):
            try:
                return self._c.CDLL(name)
            except OSError:
                continue
        raise RuntimeError("libcudart is not here: a Jetson has it from JetPack (sudo apt-get install nvidia-jetpack)")

    def name(self) -> str:
        properties = self._c.create_string_buffer(8192)  # the name stands first in all versions of cudaDeviceProp
        self._call("cudaGetDeviceProperties", properties, 0)
        return properties.raw[:256].split(b"\0")[0].decode("utf-8", "replace")

    def allocate(self, size: int) -> int:
        return self._address("cudaMalloc", self._c.c_size_t(size))

    def host_array(self, shape: List[int]) -> np.ndarray:
        """Return an array in memory that is never paged out, so that it is copied without a detour."""
        size = 4 * int(np.prod(shape))
        memory = (self._c.c_ubyte * size).from_address(self._address("cudaMallocHost", self._c.c_size_t(size)))
        return np.frombuffer(memoryview(memory), np.float32).reshape(shape)

    def stream(self) -> int:
        return self._address("cudaStreamCreate")

    def copy(self, target: int, source: int, size: int, kind: int, stream: int) -> None:
        pointer = self._c.c_void_p
        self._call("cudaMemcpyAsync", pointer(target), pointer(source), self._c.c_size_t(size), kind, pointer(stream))

    def wait(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", self._c.c_void_p(stream))

    def _address(self, name: str, *arguments: Any) -> int:
        address = self._c.c_void_p()
        self._call(name, self._c.byref(address), *arguments)
        return address.value or 0

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            said = self._library.cudaGetErrorString(code).decode("ascii", "replace")
            raise RuntimeError("%s: %s (CUDA error %d)" % (name, said, code))


# ---------------------------------------------------------------- stored inputs and answers


def stored_inputs(folder: Path, manifest: Dict[str, Any]) -> List[np.ndarray]:
    """Return the stored inputs as batches of one, as the network takes them."""
    return [as_batch(one, manifest) for one in load_array(folder, manifest["test_vectors"]["inputs"])]


def as_batch(stored: np.ndarray, manifest: Dict[str, Any]) -> np.ndarray:
    """Return a stored input as a batch of one: pixels and signals normalised, arrays of other tasks as they are."""
    values = stored.astype(np.float32)
    if manifest.get("task") is not None:
        batch: np.ndarray = values[np.newaxis]
        return batch
    return normalised(values, manifest["input"])


def load_array(folder: Path, name: str) -> np.ndarray:
    """Return a stored array."""
    array = np.load(str(folder / plain_name(name)), allow_pickle=False)  # type: np.ndarray
    return array


def difference(found: np.ndarray, stored: np.ndarray, manifest: Dict[str, Any]) -> float:
    """Return the largest difference of two sets of scores, as a share of the largest score; infinite if not finite.

    Of several outputs, the largest share of any: boxes and scores are of different size.
    """
    if found.shape != stored.shape or not np.isfinite(found).all():
        return float("inf")
    outputs = (manifest.get("task") or {}).get("outputs", [])
    pairs = [(found, stored)]
    if len(outputs) > 1:
        pairs = list(zip(unpacked(found, outputs), unpacked(stored, outputs)))
    return max(float(np.abs(one - other).max() / max(1e-6, float(np.abs(other).max()))) for one, other in pairs)


def self_test(folder: Any, runtime: Optional[str] = None) -> Dict[str, Any]:
    """Return how far the model file's answers here are from the stored ones.

    ``ok`` is whether that is within the tolerance of its precision. Raises BundleError as ``Model.open``.
    """
    place = Path(os.path.realpath(str(folder)))
    manifest = verified(place)
    vectors = manifest.get("test_vectors")
    if not vectors:
        raise BundleError("%s holds no stored inputs and answers: pull it again" % place)
    file = manifest["model"]["file"]
    start = time.perf_counter()
    network = opened(str(place / plain_name(file)), manifest, runtime)
    answers = [network(batch)[0] for batch in stored_inputs(place, manifest)]
    entry = vectors["outputs"][file]
    found = difference(np.stack(answers), load_array(place, entry["file"]), manifest)
    return {
        "file": file,
        "inputs": len(answers),
        "difference": min(found, 1e9),
        "tolerance": entry["tolerance"],
        "ok": bool(found <= entry["tolerance"]),
        "seconds": time.perf_counter() - start,
    }


def main(words: List[str]) -> None:
    if words[:1] != ["self-test"] or words[1:2] not in ([], ["--runtime"]) or len(words) not in (1, 3):
        raise SystemExit("usage: python runtime.py self-test [--runtime onnxruntime|tflite|tensorrt]")
    try:
        found = self_test(Path(__file__).resolve().parent, words[2] if len(words) == 3 else None)
    except BundleError as error:
        raise SystemExit(str(error))
    print(json.dumps(found))
    sys.exit(0 if found["ok"] else 1)


def remove_bytecode(file: str, cached: Optional[str]) -> None:
    """Remove what Python compiled of a bundle's file beside it: one file more, and it is not what was written."""
    own = Path(file)
    if cached and (own.parent / MANIFEST).exists() and Path(cached).parent.parent == own.parent:
        try:
            os.remove(cached)
            os.rmdir(os.path.dirname(cached))
        except OSError:
            pass  # a folder that cannot be written, or that holds other files too


remove_bytecode(__file__, globals().get("__cached__"))

if __name__ == "__main__":
    main(sys.argv[1:])
