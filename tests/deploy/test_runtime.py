"""A bundle's runtime library reads every kind of file as training does; neither reads a picture as black or white."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from deploy import runtime as bundle_runtime
from deploy.companions import runtime_with
from pipeline import plugins
from pipeline.data import load_data
from pipeline.data.image_io import FilePool
from pipeline.data.presets import preset_of
from pipeline.errors import DataError
from pipeline.export.format_plugin import FORMATS, GIVEN, model_format
from pipeline.torchvision_compat import torchvision
from tests.deployments import CLASSES, bundle

SIDE = 32
LEFT, RIGHT = 180, 30
PIXELS = np.full((SIDE, 40), RIGHT, np.uint8)
PIXELS[:, :20] = LEFT
GREY = Image.fromarray(PIXELS)
RGB = GREY.convert("RGB")
WIDE = PIXELS.astype(np.uint16) * 257
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip
"""How an upright picture has to be stored for an EXIF orientation."""

Save = Callable[[Path], None]


@pytest.fixture
def runtime(tmp_path: Path) -> ModuleType:
    """The file as a bundle carries it, outside the package."""
    file = tmp_path / "bundle" / "runtime.py"
    file.parent.mkdir()
    file.write_text(runtime_with(None), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("runtime_of_a_bundle", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of(image: Image.Image, **options: Any) -> Save:
    return lambda path: image.save(path, **options)


def turned(image: Image.Image, orientation: int, **options: Any) -> Save:
    exif = Image.Exif()
    exif[274] = orientation
    return of(image.transpose(TURNS[orientation]), exif=exif, **options)


def of_array(values: NDArray[Any]) -> Save:
    return of(Image.fromarray(values))


def tiff(values: NDArray[Any], *, bits: int, photometric: int) -> Save:
    """A TIFF of one strip, little-endian, of kinds that Pillow does not write."""
    data = values.tobytes() if bits == 16 else _twelve(values)
    height, width = values.shape
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8),
            (277, 3, 1), (278, 4, height), (279, 4, len(data))]  # fmt: skip
    entries = b"".join(
        t.to_bytes(2, "little") + k.to_bytes(2, "little") + (1).to_bytes(4, "little") + v.to_bytes(4, "little")
        for t, k, v in tags
    )
    head = b"II*\0" + (8 + len(data)).to_bytes(4, "little")
    return lambda path: path.write_bytes(head + data + len(tags).to_bytes(2, "little") + entries + bytes(4)) and None


def _twelve(values: NDArray[Any]) -> bytes:
    pairs = values.reshape(-1, 2).astype(np.uint32)
    packed = pairs[:, 0] << 12 | pairs[:, 1]
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], 1).astype(np.uint8).tobytes()


ALPHA = Image.new("L", GREY.size, 128)
PALETTE = RGB.quantize(4)
SAME: dict[str, Save] = {
    **{f"exif{orientation}.jpg": turned(RGB, orientation, quality=95) for orientation in TURNS},
    **{f"exif{orientation}.png": turned(RGB, orientation) for orientation in (3, 6)},
    **{f"exif{orientation}.tif": turned(RGB, orientation) for orientation in (3, 6)},
    "exif6.webp": turned(RGB, 6, lossless=True),
    "exif8_16bit.png": turned(Image.fromarray(WIDE), 8),
    "exif5_palette.png": turned(PALETTE, 5),
    "exif7_rgba.png": turned(Image.merge("RGBA", (*RGB.split(), ALPHA)), 7),
    "broken_exif.jpg": of(RGB, exif=b"Exif\0\0II*\0\xff\xff\xff\xff", quality=95),
    "plain.jpg": of(RGB, quality=95),
    "grey.jpg": of(GREY, quality=95),
    "cmyk.jpg": of(RGB.convert("CMYK"), quality=95),
    "cmyk.tif": of(RGB.convert("CMYK")),
    "ycbcr.tif": of(RGB.convert("YCbCr")),
    "16bit.png": of_array(WIDE),
    "16bit.tif": of_array(WIDE),
    "16bit_big_endian.tif": of_array(WIDE.astype(">u2")),
    "16bit.pgm": of_array(WIDE.astype(np.int32)),
    "16bit_white_is_zero.tif": tiff(65535 - WIDE, bits=16, photometric=0),
    "12bit.tif": tiff(WIDE >> 4, bits=12, photometric=1),
    "32bit.tif": of_array(WIDE.astype(np.int32)),
    "float.tif": of_array((PIXELS / 255).astype(np.float32)),
    "palette.png": of(PALETTE),
    "palette.gif": of(PALETTE),
    "palette_table.png": of(PALETTE, transparency=bytes([255, 100, 0, 3])),
    "palette_one_colour.png": of(PALETTE, transparency=0),
    "la.png": of(Image.merge("LA", (GREY, ALPHA))),
    "rgba.png": of(Image.merge("RGBA", (*RGB.split(), ALPHA))),
    "rgba.tif": of(Image.merge("RGBA", (*RGB.split(), ALPHA))),
    "rgba.webp": of(Image.merge("RGBA", (*RGB.split(), ALPHA)), lossless=True),
}  # fmt: skip
"""The same picture in every kind of file."""

REFUSED: dict[str, tuple[Save, str]] = {
    "float_255.tif": (of_array(PIXELS.astype(np.float32)), "from 30 to 180, and what of them is white is not known"),
    "float_negative.tif": (of_array((PIXELS / 127.5 - 1).astype(np.float32)), "expected 0 to 1"),
    "float_nan.tif": (of_array(np.where(PIXELS == LEFT, np.nan, 0.5).astype(np.float32)), "from nan to nan"),
    "float_tiny.tif": (of_array((PIXELS * 1e-6).astype(np.float32)), "which is all black where 1 is white"),
    "32bit_of_8.tif": (of_array(PIXELS.astype(np.int32)), "which is all black where 65535 is white"),
    "32bit_full.tif": (of_array(PIXELS.astype(np.int32) * 8421504), "expected 0 to 65535"),
    "32bit_negative.tif": (of_array(PIXELS.astype(np.int32) - 100), "from -70 to 80"),
    "16bit_of_8.png": (of_array(PIXELS.astype(np.uint16)), "all black where 65535 is white"),
    "16bit_nearly_white.png": (of_array(65300 + PIXELS.astype(np.uint16)), "all white where 65535 is white"),
    "black_under_alpha.png": (of(Image.merge("RGBA", (Image.new("L", GREY.size),) * 3 + (GREY,))), "are all 0"),
    "white_under_alpha.png": (of(Image.merge("LA", (Image.new("L", GREY.size, 255), GREY))), "are all 255"),
}  # fmt: skip


def trained(path: Path, **options: Any) -> NDArray[np.uint8]:
    pool = FilePool([path], torch.zeros(1, dtype=torch.int64), SIDE, **options)
    images: NDArray[np.uint8] = pool.read(torch.arange(1))[0].numpy()
    return images


def deployed(runtime: ModuleType, path: Path, channels: int = 3, **wanted: Any) -> NDArray[Any]:
    image: NDArray[Any] = runtime.open_image(str(path), {"shape": [channels, SIDE, SIDE], **wanted})
    return image.transpose(2, 0, 1)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
@pytest.mark.parametrize("name", SAME)
def test_one_picture_is_read_alike_from_every_kind_of_file_in_training_and_by_the_bundle(
    runtime: ModuleType, tmp_path: Path, name: str
) -> None:
    SAME[name](tmp_path / name)
    image = trained(tmp_path / name)
    assert (image == deployed(runtime, tmp_path / name)).all()
    assert abs(image[:, :, :14].astype(float) - LEFT).max() <= 2
    assert abs(image[:, :, 18:].astype(float) - RIGHT).max() <= 2
    grey = deployed(runtime, tmp_path / name, channels=1)
    assert abs(grey[:, :, :14] - LEFT).max() <= 2


@pytest.mark.parametrize("suffix", ["png", "tif", "pbm"])
def test_one_bit_becomes_black_and_white(runtime: ModuleType, tmp_path: Path, suffix: str) -> None:
    Image.fromarray(PIXELS == LEFT).save(tmp_path / f"bit.{suffix}")
    image = trained(tmp_path / f"bit.{suffix}")
    assert (image == deployed(runtime, tmp_path / f"bit.{suffix}")).all()
    assert (image[0, 5, 5], image[0, 5, 30]) == (255, 0)


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_black_or_white_is_refused_by_both(runtime: ModuleType, tmp_path: Path, name: str) -> None:
    save, said = REFUSED[name]
    save(tmp_path / name)
    with pytest.raises(DataError, match=said):
        trained(tmp_path / name)
    for channels in (1, 3):
        with pytest.raises(runtime.ImageError, match=said):
            deployed(runtime, tmp_path / name, channels)


def test_an_image_folder_names_what_is_wrong_and_skips_as_many_as_allowed(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for i in range(10):
            GREY.save(tmp_path / label / f"{i}.png")
    REFUSED["float_255.tif"][0](tmp_path / "cat" / "float.tif")
    with pytest.raises(
        DataError, match=r"cat/float\.tif\); the first: its values reach from 30 to 180.*max_unreadable: 1"
    ):
        load_data(f"imagefolder:{tmp_path}", image_size=8)
    data = load_data(f"imagefolder:{tmp_path}", image_size=8, max_unreadable=1)
    assert data.skipped == (str(tmp_path / "cat" / "float.tif"),)


@pytest.mark.parametrize("black", [0, 255])
def test_a_picture_that_is_black_or_white_itself_is_read(runtime: ModuleType, tmp_path: Path, black: int) -> None:
    for name, values in {
        "8.png": np.uint8(black),
        "16.png": np.uint16(black * 257),
        "f.tif": np.float32(black / 255),
    }.items():
        Image.fromarray(np.full((8, 8), values)).save(tmp_path / name)
        assert (trained(tmp_path / name) == black).all()
        assert (deployed(runtime, tmp_path / name) == black).all()


# ---------------------------------------------------------------- size

METHODS = {"bilinear": "BILINEAR", "bicubic": "BICUBIC", "lanczos": "LANCZOS", "nearest": "NEAREST"}


@pytest.mark.parametrize("interpolation", METHODS)
@pytest.mark.parametrize("size", [(70, 41), (33, 200), (64, 64), (45, 46)])
@pytest.mark.parametrize("resize", [SIDE, 36, 37])
def test_scaling_and_cropping_are_torchvisions(
    runtime: ModuleType, tmp_path: Path, interpolation: str, size: tuple[int, int], resize: int
) -> None:
    noise = np.random.RandomState(0).randint(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    transforms = torchvision.transforms
    method = transforms.InterpolationMode[METHODS[interpolation]]
    scale = transforms.Compose([transforms.Resize(resize, method), transforms.CenterCrop(SIDE)])
    wanted = np.asarray(scale(Image.fromarray(noise))).transpose(2, 0, 1)
    options = {"resize": resize, "interpolation": interpolation}
    assert (trained(tmp_path / "noise.png", **options) == wanted).all()
    assert (deployed(runtime, tmp_path / "noise.png", **options) == wanted).all()


@pytest.mark.parametrize("size", [(200_000, 2), (3, 90_000)])
def test_a_strip_is_scaled_without_filling_the_memory(
    runtime: ModuleType, tmp_path: Path, size: tuple[int, int]
) -> None:
    Image.new("L", size, 90).save(tmp_path / "strip.png")
    image = trained(tmp_path / "strip.png", resize=256)
    assert (image == 90).all()
    assert (image == deployed(runtime, tmp_path / "strip.png", resize=256)).all()


def test_the_pre_processing_of_torchvisions_weights_is_known_by_the_files_name() -> None:
    for weights in (
        torchvision.models.ResNet18_Weights.IMAGENET1K_V1, torchvision.models.ResNet50_Weights.IMAGENET1K_V2,
        torchvision.models.Inception_V3_Weights.IMAGENET1K_V1, torchvision.models.MNASNet0_5_Weights.IMAGENET1K_V1,
        torchvision.models.EfficientNet_V2_L_Weights.IMAGENET1K_V1,
    ):  # fmt: skip
        preset, wanted = preset_of(Path(weights.url), None), weights.transforms()
        assert preset is not None
        assert (preset.name, [preset.resize], [preset.crop]) == (str(weights), wanted.resize_size, wanted.crop_size)
        assert (preset.interpolation, list(preset.mean)) == (wanted.interpolation.value, wanted.mean)
    for name in ("mine.pth", "mine-12345678.pth", "resnet18-f37072fd.onnx"):
        assert preset_of(Path(name), None) is None


# ---------------------------------------------------------------- the file itself


@pytest.mark.parametrize("format", plugins.names(FORMATS))
def test_the_runtime_library_has_python_3_6_grammar_and_library(format: str, tmp_path: Path) -> None:
    text = runtime_with(model_format(format).opening)
    tree = ast.parse(text, feature_version=(3, 6))
    annotations = [node.annotation for node in ast.walk(tree) if isinstance(node, ast.arg | ast.AnnAssign)]
    annotations += [node.returns for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for part in (part for one in annotations if one is not None for part in ast.walk(one)):
        assert not isinstance(part, ast.BinOp), "Python 3.6 has no X | Y"
        assert not (isinstance(part, ast.Subscript) and ast.unparse(part.value) in ("list", "dict", "tuple"))
    file = tmp_path / "runtime.py"
    file.write_text(text, encoding="utf-8")
    vermin = [str(Path(sys.executable).with_name("vermin")), "-t=3.6-", "--violations", "--no-tips", str(file)]
    done = subprocess.run(vermin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_what_opens_a_file_may_use_the_names_that_the_library_has(runtime: ModuleType) -> None:
    assert all(hasattr(runtime, name) for name in GIVEN)


@pytest.mark.parametrize("format", plugins.names(FORMATS))
def test_the_runtime_library_needs_nothing_of_the_package(format: str) -> None:
    modules = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(runtime_with(model_format(format).opening)))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    others = {"numpy", "PIL", "onnxruntime", "ai_edge_litert", "tflite_runtime", "tensorrt"}
    assert modules <= others | sys.stdlib_module_names


# ---------------------------------------------------------------- a bundle's model


def test_it_answers_paths_images_and_arrays_as_the_network_does(tmp_path: Path) -> None:
    model = bundle_runtime.Model.open(bundle(tmp_path / "bundle", best=2))
    noise = np.random.RandomState(0).randint(0, 256, (41, 70, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    answers = [model.predict(tmp_path / "noise.png"), model.predict(Image.fromarray(noise)), model.predict(noise)]
    pool = FilePool([tmp_path / "noise.png"], torch.zeros(1, dtype=torch.int64), 8)
    pixels = pool.read(torch.arange(1)).numpy().astype(np.float64) / 255
    mean = ((pixels - 0.5) / 0.1).mean((2, 3)).sum()
    for found in answers:
        np.testing.assert_allclose(found.scores, [0, 0, mean, 0], atol=1e-4)
        assert found.probability == pytest.approx(float(found.probabilities.max()))
        assert found.label == CLASSES[int(found.scores.argmax())]
    with pytest.raises(bundle_runtime.ImageError, match="expected 8-bit pixels"):
        model.predict(noise.astype(np.float32))


def test_without_pillow_arrays_of_the_networks_own_size_are_taken(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "bundle", best=1)
    program = f"""
import sys
sys.modules["PIL"] = None
sys.path.insert(0, {str(folder)!r})
import numpy as np
from runtime import ImageError, Model
model = Model.open({str(folder)!r})
print(model.predict(np.full((8, 8, 3), 255, np.uint8)).label)
for other in ({str(folder / "x.png")!r}, np.zeros((9, 8, 3), np.uint8)):
    try:
        model.predict(other)
    except ImageError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    needs = "reading and scaling images needs Pillow: python3 -m pip install pillow"
    assert done.stdout.splitlines() == ["middling", needs, needs]
    assert not (folder / "__pycache__").exists()


def test_a_runtime_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no runtime 'onnx'; known: onnxruntime, tensorrt, tflite"):
        bundle_runtime.Model.open(bundle(tmp_path / "bundle"), runtime="onnx")


@pytest.mark.lab
@pytest.mark.parametrize("version", ["8.2.1.8", "8.4.3.1", "10.3.0"])
def test_tensorrt_is_called_as_each_of_its_generations_wants(tmp_path: Path, version: str) -> None:
    """On stand-ins for NVIDIA's library and GPU, as the agent's own runtime is tried."""
    virtual = Path(__file__).parents[1] / "device_agents/runtimes/virtual_gpu"
    source = [str(virtual / "cudart.c"), "-o", str(tmp_path / "libcudart.so.13")]
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", *source], check=True)
    (tmp_path / "tensorrt.py").write_text((virtual / "stand_in.py").read_text())
    (tmp_path / "doubling.onnx").write_text('{"factor": 2.0, "shape": [1, 3]}')
    program = f"""
import numpy as np
from deploy import runtime
for _ in range(2):  # the second time, of the engine that was kept
    network = runtime.open_tensorrt({str(tmp_path / "doubling.onnx")!r})
    print(network(np.array([[1, 2, 3]], np.float32)).tolist(), network(np.array([[4, 5, 6]], np.float32)).tolist())
"""
    root = Path(bundle_runtime.__file__).parents[1]
    environment = {"PYTHONPATH": f"{tmp_path}:{root}", "LD_LIBRARY_PATH": str(tmp_path), "VIRTUAL_TENSORRT": version,
                   "HOME": str(tmp_path), "PATH": "/usr/bin"}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[[2.0, 4.0, 6.0]] [[8.0, 10.0, 12.0]]"] * 2
    assert len(list((tmp_path / ".cache/edge-pruning-engines").glob("*.engine"))) == 1


TASK = {
    "name": "parts", "metric": "score",
    "inputs": [{"name": "left", "shape": [2, 3]}, {"name": "right", "shape": [1]}],
    "outputs": [{"name": "sums", "shape": [2, 3]}, {"name": "boxes", "shape": [1]}],
}  # fmt: skip


def _of_parts(folder: Path) -> Path:
    """Write an ONNX file of two inputs and two outputs."""
    left, right, sums, boxes = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("left", [1, 2, 3]), ("right", [1, 1]), ("sums", [1, 2, 3]), ("boxes", [1, 1]))
    )
    nodes = [helper.make_node("Add", ["left", "left"], ["sums"]), helper.make_node("Neg", ["right"], ["boxes"])]
    graph = helper.make_graph(nodes, "parts", [left, right], [sums, boxes])
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_arrays_go_in_and_come_out_by_their_names(runtime: ModuleType, tmp_path: Path) -> None:
    manifest = {"input": {}, "classes": [], "task": TASK}
    model = runtime.Model(manifest, runtime.opened(str(_of_parts(tmp_path)), manifest))
    left, right = runtime.random_arrays(TASK)
    found = model.run([left, right])
    assert list(found) == ["sums", "boxes"]
    assert np.array_equal(found["sums"], 2 * left)
    assert np.array_equal(found["boxes"], -right)
    assert model.median_ms([left, right], 3) > 0
    with pytest.raises(ValueError, match="the network takes"):
        model.run([right, left])
    with pytest.raises(ValueError, match="puts nothing into classes"):
        model.answer(left)


def test_runtimes_of_one_tensor_say_so(runtime: ModuleType, tmp_path: Path) -> None:
    path = str(_of_parts(tmp_path))
    with pytest.raises(ValueError, match="2 inputs and 2 outputs; of several, ONNX Runtime alone"):
        runtime.opened(path, {"task": TASK}, "tensorrt")


def test_the_smaller_of_two_outputs_is_compared_by_its_own_size(runtime: ModuleType) -> None:
    stored = np.array([[100, 100, 100, 100, 100, 100, 0.1]], np.float32)
    found = stored.copy()
    found[0, -1] = 0.2
    assert runtime.difference(found, stored, {"task": TASK}) == pytest.approx(1)
    assert runtime.difference(found, stored, {}) == pytest.approx(0.001)
