"""Data sets of the user's own, by import path: every kind of image, every kind of mistake."""

import sys
import textwrap

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.data import load_data, torch_items
from pipeline.errors import DataError
from pipeline.events import Note

SOURCE = """
    import random
    from pathlib import Path
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset


    FOLDER = Path(__file__).parent


    class Squares(Dataset):
        def __init__(self, count=24, classes=("dark", "light"), kind="pil", mode="L", labels=None, broken=()):
            self.count, self.kind, self.mode, self.labels, self.broken = count, kind, mode, labels or (0, 1), broken
            if classes:
                self.classes = list(classes)

        def __len__(self):
            return self.count

        def __getitem__(self, i):
            if i in self.broken:
                raise OSError(f"block {i}\\nis gone")
            value = 200 * (i % 2) + i
            label = self.labels[i % len(self.labels)]
            if self.kind == "pil":
                return Image.new(self.mode, (10, 10), value if self.mode == "L" else (value,) * len(self.mode)), label
            image = torch.full((1, 10, 10), value, dtype=torch.uint8)
            return (image if self.kind == "uint8" else image / 255), label


    class Mixed(Squares):
        def __getitem__(self, i):
            _, label = super().__getitem__(i)
            return Image.new("L" if i % 3 == 1 else "RGB", (10, 10) if i % 4 else (12, 9)), label


    class Random(Squares):
        def __getitem__(self, i):
            return torch.rand(1, 10, 10), i % 2


    class Stream(IterableDataset):
        def __iter__(self):
            yield torch.zeros(1, 8, 8), 0


    def squares(): return Squares()
    def of_bytes(): return Squares(kind="uint8")
    def of_floats(): return Squares(kind="float")
    def halves(): return Squares(24), Squares(6)
    def coloured(): return Squares(mode="RGBA")
    def from_one(): return Squares(classes=None, labels=(1, 5))
    def one_class(): return Squares(classes=None, labels=(4,))
    def too_high(): return Squares(labels=(0, 2))
    def unseen(): return Squares(classes=None), Squares(classes=None, labels=(0, 3))
    def breaks(): return Squares(broken=(3, 9))
    def all_broken(): return Squares(broken=range(24))
    def mirrored():
        data = Squares()
        data.flip, data.shift = True, 3
        return data
    def tensors(): return TensorDataset(torch.linspace(0, 1, 24 * 64).reshape(24, 1, 8, 8), torch.arange(24) % 2)
    def normalised(): return [(torch.full((3, 8, 8), -0.5), i % 2) for i in range(24)]
    def last_channel(): return [(torch.zeros(8, 8, 3), i % 2) for i in range(24)]
    def whole_numbers(): return [(torch.zeros(3, 8, 8, dtype=torch.int64), i % 2) for i in range(24)]
    def words(): return [(torch.zeros(3, 8, 8), "cat") for i in range(24)]
    def texts(): return [("cat.png", 0) for i in range(24)]
    def triples(): return [(torch.zeros(3, 8, 8), 0, "x") for i in range(24)]
    def bare(): return [torch.zeros(3, 8, 8)] * 24
    def few(): return Squares(2)
    def nothing(): return Squares(0)
    def mixed(): return Mixed()
    def rolled(): return Random()
    def stream(): return Stream()
    def loader(): return DataLoader(Squares())
    def number(): return 7
    def fails(): raise RuntimeError("no disk")
    def wants(root): return Squares()
    def two_sizes(): return Squares(), TensorDataset(torch.zeros(4, 1, 8, 8), torch.arange(4) % 2)
    ready = Squares()

    class Files(Squares):
        def __getitem__(self, i):
            return Image.open(FOLDER / self.file) if i == 5 else Image.new("L", (10, 10), 90), i % 2
    def of_file(name):
        files = Files()
        files.file = name
        return files
    def turned(): return of_file("turned.png")
    def deep(): return of_file("deep.png")
    def floats(): return of_file("floats.tif")
    def truncated(): return of_file("truncated.png")
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "mine.py").write_text(textwrap.dedent(SOURCE))
    return tmp_path / "mine.py"


@pytest.fixture
def load(file):
    return lambda name, **options: load_data(f"dataset:{file}:{name}", **options)


@pytest.mark.parametrize("name", ["squares", "of_bytes", "of_floats", "Squares", "ready"])
def test_pil_bytes_and_floats_give_the_same_pixels_and_keep_the_classes_names(load, name):
    data = load(name)
    assert data.classes == ("dark", "light")
    assert data.shape == (1, 10, 10)
    pool = data.train.pool
    assert pool.read(torch.tensor([3, 4]))[:, 0, 0, 0].tolist() == [203, 4]
    assert pool.labels[:4].tolist() == [0, 1, 0, 1]
    assert abs(data.input_statistics.mean) < 0.3, "mean and deviation of grey images are their own"


def test_a_pair_is_train_and_test(load):
    data = load("halves")
    assert (len(data.everything_but_test()), len(data.test)) == (24, 6)


def test_labels_as_tensors_are_numbers_too(load):
    assert load("tensors").train.pool.labels[:3].tolist() == [0, 1, 0]


def test_transparent_images_become_rgb_and_are_normalised_as_imagenet(load):
    data = load("coloured")
    assert data.shape == (3, 10, 10)
    assert data.mean == (0.485, 0.456, 0.406)


def test_labels_that_do_not_begin_at_nought_are_counted_in_their_order_and_that_is_told(load):
    heard = []
    data = load("from_one", listen=heard.append)
    assert data.classes == ("1", "5")
    assert data.train.pool.labels.unique().tolist() == [0, 1]
    assert heard == [Note("labels 1, 5 are counted as 0 to 1, in this order")]


def test_augmentation_is_a_small_shift_unless_the_data_set_says_otherwise(load):
    plain, mirrored = load("squares").train.pool, load("mirrored").train.pool
    assert (plain.shift, plain.flip) == (1, False)
    assert (mirrored.shift, mirrored.flip) == (3, True)


def test_pil_images_of_mixed_sizes_and_modes_are_scaled_where_a_size_is_given(load):
    data = load("mixed", image_size=8)
    assert all(images.shape[2:] == (8, 8) for images, _ in data.everything_but_test().batches(4))


@pytest.mark.parametrize("name", ["squares", "of_floats"])
def test_what_does_not_fit_into_memory_is_read_when_it_is_wanted(load, name, monkeypatch):
    kept = load(name).train
    monkeypatch.setattr(torch_items, "MEMORY_BYTES", 100)
    read = load(name).train
    assert isinstance(read.pool, torch_items.ItemPool)
    for seed in (1, 2):
        batches = [
            next(part.batches(9, generator=torch.Generator().manual_seed(seed), augment=True))[0]
            for part in (kept, read)
        ]
        assert torch.equal(*batches)


def test_an_item_that_breaks_later_is_named(load, monkeypatch):
    monkeypatch.setattr(torch_items, "MEMORY_BYTES", 100)
    data = load("squares")
    data.train.pool.items.dataset.broken = range(24)
    with pytest.raises(DataError, match=r"item \d+ cannot be read any more .OSError: block \d+ is gone \(mine\.py"):
        list(data.train.batches(4))


def test_items_that_raise_are_skipped_as_far_as_allowed(load):
    with pytest.raises(
        DataError, match=r"2 of 24 images cannot be read \(train item 3: OSError: block 3 is gone \(mine"
    ):
        load("breaks")
    data = load("breaks", max_unreadable=2)
    assert len(data.everything_but_test()) + len(data.test) == 22
    assert len(data.skipped) == 2
    assert data.train.pool.read(torch.tensor([3]))[0, 0, 0, 0] == 4, "item 3 is gone, so item 4 stands in its place"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "stream",
            "gave a Stream, which can only be read from front to back and cannot be split; it has to give a map",
        ),
        ("loader", "gave a DataLoader; leave it out and return its data set"),
        ("number", "gave a int; it has to give a map-style data set"),
        ("nothing", "gave a Squares without any images"),
        ("few", "class 'dark' of dataset has 1 training images; at least 4"),
        ("fails", r"raised RuntimeError: no disk \(mine\.py, line \d+\)"),
        ("wants", "requires arguments that are not passed: root"),
        ("sqares", "nothing is named 'sqares' there .did you mean 'squares'"),
        ("all_broken", r"none of the 24 train items can be read \(train item 0: OSError"),
        ("one_class", "all images have the label 4; at least 2"),
        ("too_high", "names 2 classes, but its labels reach from 0 to 2; expected 0 to 1"),
        ("unseen", r"test images have labels that no training image has \(3\)"),
        ("two_sizes", r"the test images are \(1, 8, 8\), those for training \(1, 10, 10\)"),
        ("normalised", "item 0: .* reach from -0.5 to -0.5; expected float in .*leave Normalize out"),
        ("last_channel", r"item 0: .* shape \(8, 8, 3\); expected channels x height x width"),
        ("whole_numbers", r"item 0: .*torch\.int64; expected uint8, or float"),
        ("words", "item 0: the label is 'cat'; expected a whole number"),
        ("texts", "item 0: an image is a str; expected a PIL image or a tensor"),
        ("triples", "item 0 is 3 things; expected .image, label."),
        ("bare", "item 0 is a Tensor; expected .image, label."),
        ("mixed", r"item 1 and the first one are 3x10x10 and 3x9x12 .*image_size in run\.yaml"),
        ("rolled", "item 0 is another image at the second reading; leave random transforms out"),
    ],
)
def test_mistakes_are_named_on_one_line(load, name, said):
    with pytest.raises(DataError, match=said) as raised:
        load(name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("argument", ["", ":", "mine", "mine.py"])
def test_spec_without_a_factory_is_told_how_it_is_written(argument):
    with pytest.raises(DataError, match=r"does not say what gives the data set; write dataset:package\.module:FACTORY"):
        load_data(f"dataset:{argument}".removesuffix(":"))


def test_module_in_the_working_folder_is_found_and_a_missing_one_named(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    assert len(load_data("dataset:mine:squares").classes) == 2
    del sys.modules["mine"]
    with pytest.raises(DataError, match=r"not_there cannot be imported: ModuleNotFoundError"):
        load_data("dataset:not_there:squares")
    with pytest.raises(DataError, match=r"no such file: gone\.py; a data set is named FILE\.py:FACTORY"):
        load_data("dataset:gone.py:squares")


def test_tensors_are_not_scaled(load):
    with pytest.raises(DataError, match="dataset images are 10x10 and are not scaled; leave out image_size=16"):
        load("of_bytes", image_size=16)


HALVES = np.full((10, 10), 90, np.uint8)
HALVES[:, :5] = 200


def test_an_image_that_a_data_set_opens_is_read_like_a_file(load, file):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(HALVES).transpose(Image.Transpose.ROTATE_90).save(file.parent / "turned.png", exif=exif)
    Image.fromarray(HALVES.astype(np.uint16) * 257).save(file.parent / "deep.png")
    for name in ("turned", "deep"):
        read = load(name).train.pool.read(torch.tensor([5]))
        assert (read == torch.from_numpy(HALVES)).all()


def test_an_image_that_would_be_black_or_is_cut_off_is_skipped_as_far_as_allowed(load, file):
    Image.fromarray(HALVES.astype(np.float32)).save(file.parent / "floats.tif")
    Image.effect_noise((10, 10), 50).save(file.parent / "truncated.png")
    (file.parent / "truncated.png").write_bytes((file.parent / "truncated.png").read_bytes()[:-60])
    for name, said in (
        ("floats", "from 90 to 200, and what of them is white is not known"),
        ("truncated", "truncated"),
    ):
        with pytest.raises(DataError, match=rf"1 of 24 images cannot be read \(train item 5: .*{said}"):
            load(name)
        assert len(load(name, max_unreadable=1).skipped) == 1
