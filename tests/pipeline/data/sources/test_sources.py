"""Each data source, from real or generated files, and what it says of files that are wrong."""

import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.data import load_data
from pipeline.errors import DataError

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


def write_images(folder: Path, count: int = 6, size=(40, 30)) -> Path:
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", size, colour).save(folder / name / f"{i}.{'png' if i % 2 else 'jpg'}")
    return folder


def write_npz(file: Path, count: int, labels=None, **other) -> None:
    x = np.random.RandomState(0).randint(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    y = (np.arange(count) % 10).astype(np.uint8) if labels is None else labels
    np.savez_compressed(file, **({"x": x, "y": y} | other))


@pytest.fixture
def cifar_npz(tmp_path):
    for part in range(2):
        write_npz(tmp_path / f"train_{part}.npz", 100)
    write_npz(tmp_path / "test.npz", 30)
    return tmp_path


def write_idx(file: Path, array: np.ndarray) -> None:
    content = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    file.write_bytes(gzip.compress(content, mtime=0) if file.suffix == ".gz" else content)


@pytest.fixture
def fashion(tmp_path):
    for part, count, suffix in (("train", 100, ".gz"), ("t10k", 20, "")):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte{suffix}", np.full((count, 28, 28), 51))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte{suffix}", np.arange(count) % 10)
    return tmp_path


class TestDigits:
    def test_are_the_real_scans_normalised_to_about_zero_mean_and_unit_variance(self):
        data = load_data("digits")
        assert data.shape == (1, 8, 8)
        assert data.classes == tuple("0123456789")
        assert abs(data.input_statistics.mean) < 0.05
        assert abs(data.input_statistics.variance - 1) < 0.05

    def test_refuse_an_argument(self):
        with pytest.raises(DataError, match="digits takes nothing after a colon"):
            load_data("digits:somewhere")


class TestCifar10:
    def test_joins_the_parts_and_keeps_pixels_and_labels_in_place(self, cifar_npz):
        data = load_data(f"cifar10:{cifar_npz}")
        assert [len(split) for split in (data.train, data.search, data.val, data.test)] == [160, 20, 20, 30]
        with np.load(cifar_npz / "test.npz") as arrays:
            images, labels = next(data.test.batches(1))
            position = int(data.test.indices[0])
            pixels = images[0] * torch.tensor(data.std)[:, None, None] + torch.tensor(data.mean)[:, None, None]
            assert np.allclose(pixels.permute(1, 2, 0) * 255, arrays["x"][position], atol=1e-3)
            assert labels[0] == arrays["y"][position]

    def test_reads_the_authors_binary_layout_also_from_the_folder_above(self, tmp_path):
        folder = tmp_path / "cifar-10-batches-bin"
        folder.mkdir()
        records = np.random.RandomState(0).randint(0, 256, (40, 3073)).astype(np.uint8)
        records[:, 0] = np.arange(40) % 10
        for name in ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"):
            (folder / name).write_bytes(records.tobytes())
        data = load_data(f"cifar10:{tmp_path}")
        assert len(data.everything_but_test()) == 80
        assert torch.equal(data.test.pool.read(torch.tensor([3]))[0].flatten(), torch.from_numpy(records[3, 1:]))

    def test_does_not_open_pickles_whose_checksum_is_not_the_authors(self, tmp_path):
        (tmp_path / "cifar-10-batches-py").mkdir()
        (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
        with pytest.raises(DataError, match=r"unpack cifar-10-python\.tar\.gz again"):
            load_data(f"cifar10:{tmp_path}")

    @pytest.mark.parametrize("spec", ["cifar10", "cifar10:"])
    def test_asks_for_a_folder(self, spec):
        with pytest.raises(DataError, match="cifar10 needs a folder: cifar10:DIR"):
            load_data(spec)

    def test_says_which_layouts_it_knows(self, tmp_path):
        with pytest.raises(DataError, match=r"holds no CIFAR-10; expected .*test\.npz"):
            load_data(f"cifar10:{tmp_path}")

    def test_names_the_keys_of_an_npz_with_other_ones(self, cifar_npz):
        np.savez(cifar_npz / "train_1.npz", images=np.zeros(3))
        with pytest.raises(DataError, match=r"train_1\.npz holds the keys \['images'\]; expected x"):
            load_data(f"cifar10:{cifar_npz}")

    @pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut"])
    def test_names_an_npz_that_cannot_be_read(self, cifar_npz, content):
        (cifar_npz / "train_0.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"train_0\.npz cannot be read"):
            load_data(f"cifar10:{cifar_npz}")

    def test_refuses_an_npz_of_pickled_objects(self, cifar_npz):
        np.savez(cifar_npz / "train_0.npz", x=np.array([{}], dtype=object), y=np.zeros(1))
        with pytest.raises(DataError, match=r"train_0\.npz cannot be read"):
            load_data(f"cifar10:{cifar_npz}")

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"x": np.zeros((5, 32, 32, 3), np.float32)}, "x is float32"),
            ({"x": np.zeros((5, 3, 32, 32), np.uint8)}, r"\(5, 3, 32, 32\)"),
            ({"y": np.zeros(4, np.uint8)}, "with 4 labels"),
            ({"y": np.array([0, 1, 2, 3, 10])}, "labels reach from 0 to 10"),
        ],
    )
    def test_refuses_arrays_of_the_wrong_kind(self, cifar_npz, wrong, said):
        write_npz(cifar_npz / "test.npz", 5, **wrong)
        with pytest.raises(DataError, match=said):
            load_data(f"cifar10:{cifar_npz}")

    def test_refuses_a_folder_without_training_files(self, cifar_npz):
        for file in cifar_npz.glob("train_*.npz"):
            file.unlink()
        with pytest.raises(DataError, match="test but no training images"):
            load_data(f"cifar10:{cifar_npz}")

    def test_refuses_a_binary_file_that_was_cut(self, tmp_path):
        for name in ("data_batch_1.bin", "test_batch.bin"):
            (tmp_path / name).write_bytes(bytes(3072))
        with pytest.raises(DataError, match="3072 bytes; expected a multiple of 3073"):
            load_data(f"cifar10:{tmp_path}")


class TestFashionMnist:
    def test_reads_plain_and_gzipped_files(self, fashion):
        data = load_data(f"fashion-mnist:{fashion}")
        assert data.shape == (1, 28, 28)
        assert len(data.everything_but_test()) == 100
        images, _ = next(data.test.batches(20))
        assert images.shape == (20, 1, 28, 28)
        assert torch.allclose(images, torch.tensor((0.2 - 0.286) / 0.353))

    def test_is_found_where_debian_installs_it(self, fashion, monkeypatch):
        monkeypatch.setattr("pipeline.data.sources.fashion_mnist.DEBIAN_FOLDER", fashion)
        assert len(load_data("fashion-mnist").test) == 20

    @pytest.mark.slow
    def test_says_which_package_to_install_where_the_network_is_down(self, tmp_path):
        """A child process, because a proxy that answers nothing is set before anything is fetched."""
        code = (
            "import pathlib, pipeline.data.sources.fashion_mnist as source; from pipeline.data import load_data\n"
            f"source.DEBIAN_FOLDER = pathlib.Path({str(tmp_path / 'none')!r})\n"
            "try: load_data('fashion-mnist')\nexcept source.DataError as error: print(error)"
        )
        proxy = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
        environment = os.environ | proxy | {"XDG_CACHE_HOME": str(tmp_path), "no_proxy": ""}
        said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert "sudo apt install dataset-fashion-mnist" in said.stdout
        assert said.stdout.count("\n") == 1

    def test_names_a_missing_file(self, fashion):
        (fashion / "t10k-labels-idx1-ubyte").unlink()
        with pytest.raises(DataError, match=r"holds no t10k-labels-idx1-ubyte\(\.gz\)"):
            load_data(f"fashion-mnist:{fashion}")

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\x1f\x8b broken",
            gzip.compress(b"short", mtime=0),
            gzip.compress(struct.pack(">4I", 0x0803, 9, 28, 28), mtime=0),
        ],
    )
    def test_names_a_broken_file(self, fashion, content):
        (fashion / "train-images-idx3-ubyte.gz").write_bytes(content)
        with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is no IDX file"):
            load_data(f"fashion-mnist:{fashion}")

    def test_refuses_more_images_than_labels(self, fashion):
        write_idx(fashion / "t10k-labels-idx1-ubyte", np.zeros(3))
        with pytest.raises(DataError, match="and 3 labels"):
            load_data(f"fashion-mnist:{fashion}")


class TestImagefolder:
    def test_classes_are_the_sub_folders_and_images_are_scaled(self, tmp_path):
        data = load_data(f"imagefolder:{write_images(tmp_path)}", image_size=16)
        assert data.classes == ("blue", "green", "red")
        assert data.shape == (3, 16, 16)
        assert len(data.everything_but_test()) + len(data.test) == 18
        for images, labels in data.everything_but_test().batches(4):
            assert images.shape[1:] == (3, 16, 16)
            assert torch.equal(images.mean((2, 3)).argmax(1), 2 - labels), "blue is channel 2, red is channel 0"

    def test_side_is_224_unless_told(self, tmp_path):
        assert load_data(f"imagefolder:{write_images(tmp_path)}").shape == (3, 224, 224)

    def test_side_is_that_of_the_networks_file_where_the_user_says_none(self, tmp_path):
        spec = f"imagefolder:{write_images(tmp_path)}"
        assert load_data(spec, network_side=16).shape == (3, 16, 16)
        assert load_data(spec, network_side=16, image_size=12).shape == (3, 12, 12)
        assert load_data("digits", network_side=16).shape == (1, 8, 8), "these are not scaled"

    def test_the_centre_is_kept_and_the_shorter_side_fits(self, tmp_path):
        write_images(tmp_path)
        wide = Image.new("RGB", (90, 30), (0, 0, 0))
        wide.paste((255, 255, 255), (30, 0, 60, 30))
        for file in (tmp_path / "red").iterdir():
            wide.save(file.with_suffix(".png"))
            if file.suffix == ".jpg":
                file.unlink()
        pool = load_data(f"imagefolder:{tmp_path}", image_size=10).train.pool
        square = pool.read((pool.labels == 2).nonzero()[:1, 0])
        assert (square[..., 1:-1] == 255).all(), "the black sides are cut off"

    def test_augmented_images_differ_and_repeat_for_one_seed(self, tmp_path):
        write_images(tmp_path)
        gradient = Image.linear_gradient("L").rotate(30).convert("RGB")
        for file in tmp_path.glob("*/*"):
            gradient.save(file)
        train = load_data(f"imagefolder:{tmp_path}", image_size=16).train

        def epoch(seed):
            return next(train.batches(8, generator=torch.Generator().manual_seed(seed), augment=True))[0]

        assert torch.equal(epoch(1), epoch(1))
        assert not torch.equal(epoch(1), epoch(2))
        assert len(epoch(1).flatten(1).unique(dim=0)) == len(epoch(1))

    def test_test_folder_is_the_test_split(self, tmp_path):
        write_images(tmp_path / "train", 5)
        write_images(tmp_path / "test", 2)
        data = load_data(f"imagefolder:{tmp_path}", image_size=8)
        assert len(data.test) == 6
        assert {file.parts[-3] for file in data.test.pool.files} == {"test"}

    def test_val_folder_is_the_test_split_where_there_is_no_other(self, tmp_path):
        write_images(tmp_path / "train", 5)
        write_images(tmp_path / "val", 1)
        assert len(load_data(f"imagefolder:{tmp_path}", image_size=8).test) == 3

    def test_val_and_test_folders_are_what_their_names_say(self, tmp_path):
        for name, count in (("train", 5), ("val", 2), ("test", 1)):
            write_images(tmp_path / name, count)
        data = load_data(f"imagefolder:{tmp_path}", image_size=8)
        assert [len(part) for part in (data.train, data.search, data.val, data.test)] == [12, 3, 6, 3]
        assert {data.val.pool.files[i].parts[-3] for i in data.val.indices} == {"val"}
        assert {data.train.pool.files[i].parts[-3] for i in data.train.indices} == {"train"}

    def test_a_class_may_be_called_train(self, tmp_path):
        write_images(tmp_path)
        (tmp_path / "red").rename(tmp_path / "train")
        assert load_data(f"imagefolder:{tmp_path}", image_size=8).classes == ("blue", "green", "train")

    def test_other_files_and_hidden_folders_are_passed_over(self, tmp_path):
        write_images(tmp_path)
        (tmp_path / ".thumbnails").mkdir()
        (tmp_path / "red" / "Thumbs.db").write_bytes(b"x")
        (tmp_path / "red" / "._0.jpg").write_bytes(b"x")
        assert len(load_data(f"imagefolder:{tmp_path}", image_size=8).classes) == 3

    def test_grey_and_transparent_images_become_rgb(self, tmp_path):
        write_images(tmp_path)
        Image.new("L", (20, 20), 9).save(tmp_path / "red" / "0.jpg")
        Image.new("RGBA", (20, 20)).save(tmp_path / "red" / "1.png")
        data = load_data(f"imagefolder:{tmp_path}", image_size=8)
        assert all(images.shape[1] == 3 for images, _ in data.everything_but_test().batches(5))

    def test_folders_whose_names_are_no_utf8_give_names_that_can_be_stored(self, tmp_path):
        write_images(tmp_path)
        (tmp_path / "red").rename(tmp_path / os.fsdecode(b"rouge\xe9"))
        data = load_data(f"imagefolder:{tmp_path}", image_size=8)
        assert data.classes == ("blue", "green", "rouge\N{REPLACEMENT CHARACTER}")
        assert len(list(data.everything_but_test().batches(50))) == 1

    def test_missing_folder_is_named(self, tmp_path):
        with pytest.raises(DataError, match=r"no data folder .*cats \(found nothing there\)"):
            load_data(f"imagefolder:{tmp_path / 'cats'}")

    def test_file_instead_of_a_folder_is_named(self, tmp_path):
        (tmp_path / "cats.zip").touch()
        with pytest.raises(DataError, match=r"found a file"):
            load_data(f"imagefolder:{tmp_path / 'cats.zip'}")

    def test_one_class_is_too_few(self, tmp_path):
        (tmp_path / "cats").mkdir()
        with pytest.raises(DataError, match="holds one class, 'cats'; at least 2"):
            load_data(f"imagefolder:{tmp_path}")

    def test_images_without_class_folders_are_refused(self, tmp_path):
        Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
        with pytest.raises(DataError, match="holds no class folders; at least 2"):
            load_data(f"imagefolder:{tmp_path}")

    def test_empty_class_is_named(self, tmp_path):
        write_images(tmp_path)
        (tmp_path / "yellow").mkdir()
        with pytest.raises(DataError, match=r"class folder .*yellow holds no images"):
            load_data(f"imagefolder:{tmp_path}")

    def test_halves_with_other_classes_are_refused(self, tmp_path):
        write_images(tmp_path / "train")
        write_images(tmp_path / "val")
        (tmp_path / "val" / "red").rename(tmp_path / "val" / "rouge")
        with pytest.raises(DataError, match=r"other classes than the training folder \(red, rouge\)"):
            load_data(f"imagefolder:{tmp_path}")

    def test_broken_images_are_counted_and_three_are_named(self, tmp_path):
        write_images(tmp_path)
        for i, content in enumerate([b"", b"<html>", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]):
            (tmp_path / "blue" / f"broken{i}.jpg").write_bytes(content)
        with pytest.raises(DataError, match=r"4 of 22 .*broken0.*broken1.*broken2\.jpg, …\)") as raised:
            load_data(f"imagefolder:{tmp_path}")
        assert "broken3" not in str(raised.value)
        assert raised.value.exit_code == 2

    def test_image_cut_in_the_middle_is_found_when_the_folder_is_opened(self, tmp_path):
        write_images(tmp_path, size=(200, 200))
        for file in tmp_path.glob("*/*.jpg"):
            file.write_bytes(file.read_bytes()[:-200])
        with pytest.raises(DataError, match=r"9 of 18 images cannot be read .*\.jpg"):
            load_data(f"imagefolder:{tmp_path}", image_size=8)

    def test_image_that_breaks_later_is_named_when_it_is_read(self, tmp_path):
        data = load_data(f"imagefolder:{write_images(tmp_path)}", image_size=8)
        for file in tmp_path.glob("*/*.jpg"):
            file.write_bytes(file.read_bytes()[:-200])
        with pytest.raises(DataError, match=r"\.jpg cannot be read any more .*resume with --resume"):
            list(data.everything_but_test().batches(18))

    @pytest.mark.parametrize("size", [0, -3])
    def test_image_size_has_to_be_positive(self, tmp_path, size):
        with pytest.raises(DataError, match=f"image_size is {size}"):
            load_data(f"imagefolder:{write_images(tmp_path)}", image_size=size)

    def test_class_with_too_few_images_for_the_splits_is_named(self, tmp_path):
        write_images(tmp_path)
        for i in range(3):
            (tmp_path / "green" / f"{i}.{'png' if i % 2 else 'jpg'}").unlink()
        with pytest.raises(DataError, match="class 'green' of imagefolder has 3 training images; at least 4"):
            load_data(f"imagefolder:{tmp_path}")
