"""What is brought fits together: which tensors are signals is the network's to say."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pipeline.config import RunConfig, load_config
from pipeline.data import read_splits
from pipeline.data.image_io import Fitting
from pipeline.errors import ConfigError, DataError
from pipeline.events import Event, Note
from pipeline.run.base_model import may_have_seen
from pipeline.run.inputs import load_inputs
from pipeline.torchvision_compat import torchvision
from tests.examples import figures

SOURCE = """
    import torch
    from torch import nn


    class Net(nn.Sequential):
        def __init__(self, kind, pool, channels, classes):
            super().__init__(kind(channels, 8, 3, padding=1), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(8, classes))

    def of_signals(num_classes, in_channels): return Net(nn.Conv1d, nn.AdaptiveAvgPool1d, in_channels, num_classes)
    def of_images(num_classes, in_channels): return Net(nn.Conv2d, nn.AdaptiveAvgPool2d, in_channels, num_classes)
    def of_two(num_classes=2): return Net(nn.Conv1d, nn.AdaptiveAvgPool1d, 6, num_classes)
    def of_neither(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(SIZE, num_classes))

    SIZE = 24 * 24

    def of(*shape, offset=0.0):
        return [(torch.rand(shape) + offset, i % 2) for i in torch.arange(24).tolist()]

    torch.manual_seed(0)
    SQUARE, LONG, ROW, FAR = of(24, 24), of(6, 96), of(1, 576), of(24, 24, offset=50.0)
"""


@pytest.mark.parametrize(
    ("model", "data", "shape"),
    [
        ("of_signals", "SQUARE", (24, 24)),
        ("of_signals", "FAR", (24, 24)),
        ("of_signals", "LONG", (6, 96)),
        ("of_signals", "ROW", (1, 576)),
        ("of_two", "LONG", (6, 96)),
        ("of_images", "SQUARE", (1, 24, 24)),
        ("of_images", "LONG", (1, 6, 96)),
        ("of_images", "ROW", (1, 1, 576)),
        ("of_neither", "SQUARE", (1, 24, 24)),
        ("of_neither", "ROW", (1, 576)),
    ],
)
def test_a_network_of_conv1d_takes_two_dimensions_as_signals_and_one_of_conv2d_as_grey_images(
    tmp_path: Path, model: str, data: str, shape: tuple[int, ...]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(textwrap.dedent(SOURCE))
    inputs = load_inputs(RunConfig(model=f"{file}:{model}", data=f"dataset:{file}:{data}", threads=1))
    assert inputs.data.shape == tuple(inputs.example.shape[1:]) == shape


# ---------------------------------------------------------------- the size of images


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for label in ("cat", "dog"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(6):
            Image.effect_noise((300, 260), 60).save(tmp_path / "pictures" / label / f"{i}.png")
    return tmp_path / "pictures"


def of_pictures(pictures: Path, weights: Path, **settings: Any) -> RunConfig:
    data = f"imagefolder:{pictures}"
    return RunConfig(model="squeezenet1_1", weights=weights, head="new", data=data, threads=1, **settings)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Weights under the name that torchvision's have."""
    file = tmp_path / Path(torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url).name
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), file)
    return file


def test_images_for_torchvisions_weights_are_read_as_these_were_trained_and_that_is_told(
    pictures: Path, published: Path
) -> None:
    heard: list[Event] = []
    data = load_inputs(of_pictures(pictures, published), listen=heard.append).data
    wanted = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.transforms()
    image, _ = next(data.val.batches(1))
    file = data.val.pool.files[int(data.val.indices[0])]  # type: ignore[attr-defined]
    with Image.open(file) as opened:
        torch.testing.assert_close(image[0], wanted(opened.convert("RGB")), atol=2e-6, rtol=0)
    (note,) = (event.text for event in heard if isinstance(event, Note))
    assert (
        "SqueezeNet1_1_Weights.IMAGENET1K_V1: the shorter side scaled to 256 (bilinear), the centre cut to 224" in note
    )


@pytest.mark.slow
def test_a_resumed_run_reads_images_as_it_began_though_the_weights_file_is_gone(
    pictures: Path, published: Path, tmp_path: Path
) -> None:
    config = of_pictures(pictures, published)
    begun = load_inputs(config).data
    assert begun.splits is not None
    (tmp_path / "splits").write_bytes(begun.splits.to_bytes())
    published.rename(tmp_path / "other.pth")
    renamed = config.model_copy(update={"weights": tmp_path / "gone.pth"})
    again = load_inputs(renamed, weights_known=True, splits=read_splits(tmp_path / "splits")).data
    assert again.fitting == begun.fitting
    assert again.fitting is not None
    assert (again.fitting.resize, again.fitting.side) == (256, 224)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "fitting"),
    [
        ({}, Fitting(224)),
        ({"image_size": 64}, Fitting(64)),
        ({"crop": 64, "resize": 72, "interpolation": "bicubic"}, Fitting(64, 72, "bicubic")),
        ({"resize": 232}, Fitting(224, 232)),
    ],
)
def test_for_other_weights_the_settings_count_and_without_them_a_note_says_what_is_done(
    pictures: Path, published: Path, tmp_path: Path, settings: dict[str, Any], fitting: Fitting
) -> None:
    published.rename(tmp_path / "mine.pth")
    heard: list[Event] = []
    data = load_inputs(of_pictures(pictures, tmp_path / "mine.pth", **settings), listen=heard.append).data
    assert data.fitting == fitting
    told = [event.text for event in heard if isinstance(event, Note)]
    assert len(told) == (fitting.resize is None)
    assert all("just cover" in note for note in told)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"image_size": 224, "crop": 192}, "image_size is 224, crop 192, and they mean the same"),
        ({"crop": 224, "resize": 200}, "resize is 200, less than the side that is cut, 224"),
        ({"interpolation": "cubic"}, "'bilinear', 'bicubic', 'lanczos' or 'nearest'"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(None, settings)


def test_a_resize_below_the_usual_side_is_refused_too(pictures: Path, published: Path) -> None:
    with pytest.raises(DataError, match="images are scaled to 100 and cut to 224; give a resize of at least the crop"):
        load_inputs(of_pictures(pictures, published, resize=100))


@pytest.mark.parametrize("settings", [{"resize": 16}, {"interpolation": "bicubic"}, {"crop": 16}])
def test_sizes_are_refused_for_images_that_nobody_scales(settings: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="digits images are 8x8 and are not scaled; leave out"):
        load_inputs(RunConfig(threads=1, **settings))


@pytest.mark.parametrize(
    ("accuracy", "settings", "doubted"),
    [
        (1.0, {"weights": "net.pt"}, True),
        (0.999, {"weights": "net.pt"}, False),
        (1.0, {}, False),
        (1.0, {"weights": "net.pt", "head": "new"}, False),
    ],
)
def test_a_base_from_elsewhere_that_is_never_wrong_may_have_seen_the_images(
    accuracy: float, settings: dict[str, Any], doubted: bool
) -> None:
    assert may_have_seen(figures(search_accuracy=accuracy), RunConfig(**settings)) is doubted
