"""Tables of image files, as people write them, and what is said of wrong ones."""

import os

import pytest
from PIL import Image

from pipeline.data import load_data
from pipeline.errors import DataError

COLOURS = {"cat": (255, 0, 0), "dog": (0, 0, 255)}


@pytest.fixture
def images(tmp_path):
    """Six pictures of either class, of mixed sizes and modes, in one folder."""
    (tmp_path / "images").mkdir()
    for name, colour in COLOURS.items():
        for i in range(6):
            Image.new("RGB", (20 + i, 30 - i), colour).save(tmp_path / "images" / f"{name}{i}.png")
    return tmp_path


def rows(split=lambda *_: ""):
    return [f"images/{name}{i}.png,{name}{split(name, i)}" for name in COLOURS for i in range(6)]


def table(folder, *lines, header="path,label", encoding="utf-8", name="table.csv"):
    (folder / name).write_text("\n".join([header, *lines]) + "\n", encoding)
    return f"csv:{folder / name}"


def load(spec, **options):
    return load_data(spec, image_size=8, **options)


def refused(spec):
    with pytest.raises(DataError) as raised:
        load(spec)
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 2
    return str(raised.value)


def test_paths_are_relative_to_the_table_and_classes_are_its_labels(images):
    data = load(table(images, *rows()))
    assert data.classes == ("cat", "dog")
    assert len(data.everything_but_test()) + len(data.test) == 12
    for batch, labels in data.everything_but_test().batches(3):
        assert (batch.mean((2, 3)).argmax(1) == 2 * labels).all(), "cats are red, dogs blue"


def test_splits_are_those_of_the_table(images):
    names = {0: "test", 1: "Validation"}
    data = load(table(images, *rows(lambda _, i: f",{names.get(i, 'train')}"), header="path,label,split"))
    assert [len(part) for part in (data.train, data.search, data.val, data.test)] == [6, 2, 2, 2]
    assert {data.val.pool.files[i].name for i in data.val.indices} == {"cat1.png", "dog1.png"}
    assert {data.test.pool.files[i].name for i in data.test.indices} == {"cat0.png", "dog0.png"}


def test_val_alone_is_the_test_split(images):
    data = load(table(images, *rows(lambda _, i: ",train" if i else ",val"), header="path,label,split"))
    assert {data.test.pool.files[i].name for i in data.test.indices} == {"cat0.png", "dog0.png"}


@pytest.mark.parametrize(
    ("header", "separator"),
    [("File Name,Class", ","), ("\ufeffimage;category;photographer", ";"), ("IMAGE-PATH\tTarget", "\t")],
)
def test_headers_and_separators_are_read_as_people_write_them(images, header, separator):
    lines = [row.replace(",", separator) + (";me" if "photographer" in header else "") for row in rows()]
    assert load(table(images, *lines, header=header)).classes == ("cat", "dog")


def test_numbers_as_labels_come_in_the_order_of_their_values(images):
    lines = [row.replace(",cat", ",10").replace(",dog", ",9") for row in rows()]
    assert load(table(images, *lines)).classes == ("9", "10")


def test_grey_and_transparent_images_become_rgb(images):
    Image.new("L", (9, 9)).save(images / "images" / "cat0.png")
    Image.new("RGBA", (9, 9)).save(images / "images" / "dog0.png")
    data = load(table(images, *rows()))
    assert all(batch.shape[1:] == (3, 8, 8) for batch, _ in data.everything_but_test().batches(4))


def test_broken_images_are_skipped_where_that_is_allowed(images):
    (images / "images" / "cat0.png").write_bytes(b"\x89PNG")
    spec = table(images, *rows())
    assert "1 of 12 images cannot be read" in refused(spec)
    assert load(spec, max_unreadable=1).skipped == (str(images / "images" / "cat0.png"),)


def test_files_whose_names_are_no_utf8_are_found_and_can_be_printed(images):
    odd = os.fsdecode(b"caf\xe9.png")
    (images / "images" / "cat0.png").rename(images / "images" / odd)
    lines = [row.replace("cat0.png", odd) for row in rows()]
    (images / "table.csv").write_bytes("\n".join(["path,label", *lines]).encode("utf-8", "surrogateescape"))
    assert len(load(f"csv:{images / 'table.csv'}").everything_but_test()) > 0
    (images / "images" / odd).write_bytes(b"")
    refused(f"csv:{images / 'table.csv'}").encode("utf-8")


def test_labels_that_are_no_utf8_can_be_stored(images):
    content = "\n".join(["path,label", *rows()]).encode().replace(b",cat", b",chat\xe9")
    (images / "table.csv").write_bytes(content)
    assert load(f"csv:{images / 'table.csv'}").classes == ("chat\N{REPLACEMENT CHARACTER}", "dog")


@pytest.mark.parametrize(
    ("spec", "found"), [("csv", "nothing there"), ("csv:{}/no.csv", "nothing"), ("csv:{}", "a folder")]
)
def test_missing_table_is_named(tmp_path, spec, found):
    said = refused(spec.format(tmp_path))
    assert found in said
    assert "path,label" in said


@pytest.mark.parametrize("content", ["", "path,label", "path,label\n\n , \n"])
def test_empty_table_is_refused(tmp_path, content):
    (tmp_path / "table.csv").write_text(content)
    said = refused(f"csv:{tmp_path / 'table.csv'}")
    assert "lists no images" in said or "no column is called path (found nothing)" in said


def test_unknown_column_is_named_with_those_that_are_known(images):
    said = refused(table(images, *rows(), header="path,species"))
    assert "table.csv:1: no column is called label (found 'path', 'species'); known names are label, class," in said


def test_table_without_a_header_says_so(images):
    assert "no column is called path (found 'images/cat0.png', 'cat')" in refused(
        table(images, *rows()[1:], header=rows()[0])
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("images/cat0.png", "table.csv:13: the label is empty"),
        (",cat", "table.csv:13: the path is empty"),
        ("images/gone.png,cat", "1 of 12 listed images do not exist ("),
        ("images/../images/dog1.png,cat", "dog1.png stands in lines 8 and 13; list every image once"),
    ],
)
def test_wrong_line_is_named(images, line, said):
    lines = [row for row in rows() if "cat0" not in row]
    assert said in refused(table(images, *lines, line))


def test_unknown_split_is_named(images):
    said = refused(table(images, *rows(lambda _, i: ",train" if i else ",holdout"), header="path,label,split"))
    assert "table.csv:2: the split is 'holdout'; write train, val or test" in said


def test_label_that_no_training_image_has_is_named(images):
    lines = [*rows(lambda *_: ",train")[1:], "images/cat0.png,lynx,test"]
    said = refused(table(images, *lines, header="path,label,split"))
    assert "line 13: no training image has the label 'lynx' of this test image" in said


@pytest.mark.parametrize(("split", "found"), [(",test", "no lines"), ("", "one label, 'cat'")])
def test_fewer_than_two_classes_are_refused(images, split, found):
    lines = [row + split for row in rows()[:6]]
    assert f"the table holds {found} for training" in refused(
        table(images, *lines, header="path,label" + ",split" * bool(split))
    )


def test_one_image_a_class_is_too_few(images):
    assert "class 'cat' of csv has 1 training images; at least 4" in refused(table(images, rows()[0], rows()[6]))


def test_a_file_that_is_no_text_is_refused(images):
    spec = table(images, *rows(), encoding="utf-16")
    assert "table.csv" in refused(spec)
