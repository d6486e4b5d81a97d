"""Broken images: found once, remembered as sound until they change, skipped as far as the user allows."""

import os

import pytest
from PIL import Image

from pipeline.data import decode_check, load_data
from pipeline.data.decode_check import unreadable
from pipeline.errors import DataError
from pipeline.events import Note, Stage, StageProgress


@pytest.fixture
def folder(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(10):
            Image.effect_noise((40, 40), 60).save(tmp_path / name / f"{i}.jpg")
    return tmp_path


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return file


def load(folder, **options):
    return load_data(f"imagefolder:{folder}", image_size=8, **options)


def test_the_first_broken_image_is_an_error_that_names_the_file_and_the_setting(folder):
    cut(folder / "cat" / "3.jpg")
    with pytest.raises(
        DataError, match=r"1 of 20 images cannot be read \(.*cat/3\.jpg\).*max_unreadable: 1 in run\.yaml"
    ):
        load(folder)


@pytest.mark.parametrize("allowed", [2, 0.1])
def test_broken_images_are_skipped_told_of_and_listed_up_to_a_number_or_a_share(folder, allowed):
    broken = [cut(folder / "cat" / "3.jpg"), cut(folder / "dog" / "7.jpg")]
    heard = []
    data = load(folder, max_unreadable=allowed, listen=heard.append)
    assert data.skipped == tuple(map(str, broken))
    (note,) = heard
    assert isinstance(note, Note)
    assert all(str(file) in note.text for file in broken)
    assert not set(data.train.pool.files) & set(broken)
    assert len(data.everything_but_test()) + len(data.test) == 18
    list(data.everything_but_test().batches(18))


@pytest.mark.parametrize("allowed", [1, 0.09])
def test_one_more_than_allowed_is_refused(folder, allowed):
    cut(folder / "cat" / "3.jpg")
    cut(folder / "dog" / "7.jpg")
    with pytest.raises(DataError, match="2 of 20 images"):
        load(folder, max_unreadable=allowed)


def test_sound_images_are_not_opened_again_until_they_change(folder, monkeypatch):
    files = sorted(folder.glob("*/*"))
    assert unreadable(files, print) == []
    opened = []
    real = decode_check._is_sound
    monkeypatch.setattr(decode_check, "_is_sound", lambda file: opened.append(file) or real(file))
    assert unreadable(files, print) == []
    assert opened == []
    os.utime(files[4], ns=(1, 1))
    cut(files[9])
    assert unreadable(files, print) == [9]
    assert opened == [files[4], files[9]]


def test_what_is_broken_is_looked_at_again_so_that_a_fixed_file_counts(folder):
    file = folder / "cat" / "3.jpg"
    good = file.read_bytes()
    cut(file)
    assert unreadable([file], print) == [0]
    file.write_bytes(good)
    assert unreadable([file], print) == []


def test_a_cache_that_cannot_be_written_changes_nothing(folder, cache):
    (cache / "pipeline").write_text("a file where the folder should be")
    assert unreadable(sorted(folder.glob("*/*")), print) == []


def test_a_long_check_tells_how_far_it_has_come(folder, monkeypatch):
    monkeypatch.setattr(decode_check, "CHUNK", 8)
    heard = []
    unreadable(sorted(folder.glob("*/*")), heard.append)
    assert heard == [
        Stage("Decode 20 images once, to find broken ones", 20),
        *(StageProgress(done, "0 unreadable") for done in (8, 16, 20)),
    ]


def test_a_file_that_is_gone_is_unreadable_not_a_crash(tmp_path):
    assert unreadable([tmp_path / "gone.png"], print) == [0]
