"""Tiny-ImageNet's layout, with three classes instead of 200."""

import pytest
from PIL import Image

from pipeline.data import load_data
from pipeline.errors import DataError

COLOURS = {"n01443537": (255, 0, 0), "n01629819": (0, 255, 0), "n02124075": (0, 0, 255)}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "wnids.txt").write_text("\n".join(reversed(COLOURS)) + "\n")
    (tmp_path / "words.txt").write_text(
        "n01443537\tgoldfish, Carassius auratus\nn00000000\tnothing\nn02124075\tEgyptian cat\n"
    )
    val = tmp_path / "val" / "images"
    val.mkdir(parents=True)
    lines = []
    for number, (wnid, colour) in enumerate(COLOURS.items()):
        images = tmp_path / "train" / wnid / "images"
        images.mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (64, 64), colour).save(images / f"{wnid}_{i}.JPEG")
        Image.new("RGB", (64, 64), colour).save(val / f"val_{number}.JPEG")
        lines.append(f"val_{number}.JPEG\t{wnid}\t0\t0\t62\t62\n")
    (tmp_path / "val" / "val_annotations.txt").write_text("".join(lines))
    return tmp_path


def test_classes_are_numbered_by_wnid_and_called_by_their_words(folder):
    data = load_data(f"tiny-imagenet:{folder}")
    assert data.classes == ("goldfish, Carassius auratus", "n01629819", "Egyptian cat")
    assert data.shape == (3, 64, 64)
    for part in (data.everything_but_test(), data.test):
        for images, labels in part.batches(4):
            assert (images.mean((2, 3)).argmax(1) == labels).all()


def test_the_labelled_val_part_is_the_test_split(folder):
    data = load_data(f"tiny-imagenet:{folder}")
    assert (len(data.everything_but_test()), len(data.test)) == (15, 3)


@pytest.mark.parametrize("name", ["wnids.txt", "words.txt", "val/val_annotations.txt"])
def test_missing_list_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(DataError, match=rf"{name} cannot be read .*give tiny-imagenet:DIR with wnids\.txt"):
        load_data(f"tiny-imagenet:{folder}")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("val_9.JPEG\tn01443537", r"1 of which are missing \(val_9\.JPEG\)"),
        ("val_1.JPEG\tn7", "names no class"),
        ("x", "names no"),
    ],
)
def test_annotation_that_fits_nothing_is_named(folder, line, said):
    with (folder / "val" / "val_annotations.txt").open("a") as lines:
        lines.write(line)
    with pytest.raises(DataError, match=said):
        load_data(f"tiny-imagenet:{folder}")


def test_class_without_images_is_named(folder):
    for file in (folder / "train" / "n01629819" / "images").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"n01629819/images holds no \.JPEG files; unpack the archive again"):
        load_data(f"tiny-imagenet:{folder}")


def test_asks_for_a_folder():
    with pytest.raises(DataError, match="tiny-imagenet needs a folder"):
        load_data("tiny-imagenet")
