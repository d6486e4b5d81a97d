import hashlib
import json
import os
import shutil
import subprocess
import time
import zlib
from pathlib import Path

import pytest

from device_agents.errors import AgentError
from device_agents.files import Files
from device_agents.protocol import BAD_REQUEST, CORRUPT, DISK_FULL


@pytest.fixture
def folder(tmp_path):
    return tmp_path


@pytest.fixture
def put(folder):
    def put(data, extension="onnx", unused_s=0.0):
        path = folder / f"{hashlib.sha256(data).hexdigest()}.{extension}"
        path.write_bytes(data)
        then = time.time() - unused_s
        os.utime(path, (then, then))
        return path

    return put


def skeleton_of(size):
    header = {"size": size, "fill": [[0, size, 0.0, 1.0]]}
    return zlib.compress(json.dumps(header).encode() + b"\n")


def test_a_file_is_found_by_its_content_s_name_and_none_stays_none(folder, put):
    path = put(b"model")

    assert Files(str(folder)).paths([path.name, None]) == [str(path), None]


def test_the_folder_is_made_private_and_a_missing_file_has_to_be_sent(folder):
    with pytest.raises(AgentError, match="missing: send it") as caught:
        Files(str(folder / "files")).paths(["0" * 64 + ".onnx"])

    assert caught.value.kind == CORRUPT
    assert (folder / "files").stat().st_mode & 0o777 == 0o700


def test_a_file_that_is_not_what_its_name_says_is_removed_and_has_to_be_sent_again(folder, put):
    path = put(b"model")
    path.write_bytes(b"mod")

    with pytest.raises(AgentError, match="send it again") as caught:
        Files(str(folder)).paths([path.name])

    assert caught.value.kind == CORRUPT
    assert not path.exists()


def test_a_file_is_hashed_once_until_it_changes(folder, put):
    path = put(b"model")
    files = Files(str(folder))
    files.paths([path.name])
    before = path.stat().st_mtime_ns
    path.write_bytes(b"MODEL")
    os.utime(path, ns=(before, before))
    files.paths([path.name])  # same size and time: taken for the same

    os.utime(path)
    with pytest.raises(AgentError):
        files.paths([path.name])


@pytest.mark.parametrize("name", ["../secret", "a.onnx", "0" * 64, "0" * 64 + ".onnx/../x", "A" * 64 + ".onnx", 3])
def test_a_name_that_is_no_content_s_name_is_refused(folder, name):
    with pytest.raises(AgentError, match="expected <sha256>") as caught:
        Files(str(folder)).paths([name])
    assert caught.value.kind == BAD_REQUEST


def test_a_skeleton_is_expanded_beside_itself_once_for_each_seed(folder, put):
    name = put(skeleton_of(4000), "skeleton").name
    files = Files(str(folder))

    (first,) = files.paths([name], seed=1)
    made = Path(first).stat().st_mtime_ns
    (again,) = files.paths([name], seed=1)
    (other,) = files.paths([name], seed=2)

    assert first == again != other
    assert Path(first).stat().st_mtime_ns == made
    assert Path(other).stat().st_size == 4000


def test_an_expanded_file_of_an_earlier_session_is_not_trusted(folder, put):
    name = put(skeleton_of(4000), "skeleton").name
    (whole,) = Files(str(folder)).paths([name])
    Path(whole).write_bytes(b"cut off")

    assert Files(str(folder)).paths([name]) == [whole]
    assert Path(whole).stat().st_size == 4000


def test_the_longest_unused_files_go_first_and_those_in_use_stay(folder, put):
    wanted = put(b"w" * 400, unused_s=900)
    oldest, middle, newest = (put(bytes([n]) * 300, unused_s=800 - n) for n in (1, 100, 200))

    Files(str(folder), quota=1000).paths([wanted.name])

    assert [path.exists() for path in (wanted, oldest, middle, newest)] == [True, False, True, True]


def test_room_is_made_for_what_is_expanded(folder, put):
    name = put(skeleton_of(800), "skeleton").name
    old = put(b"o" * 300, unused_s=100)

    (whole,) = Files(str(folder), quota=1000).paths([name])

    assert not old.exists()
    assert Path(whole).stat().st_size == 800


def test_a_file_counts_as_used_when_it_is_asked_for(folder, put):
    first, second = put(b"1" * 400, unused_s=500), put(b"2" * 400, unused_s=400)
    files = Files(str(folder), quota=10_000)
    files.paths([first.name])

    third = put(b"3" * 400)
    Files(str(folder), quota=1000).paths([third.name])

    assert first.exists()
    assert not second.exists()


def test_uploads_that_nobody_finished_within_an_hour_are_removed(folder, put):
    stale, fresh = folder / ".part-stale", folder / ".part-fresh"
    for path, age in ((stale, 3700), (fresh, 60)):
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age,) * 2)

    Files(str(folder)).paths([put(b"model").name])

    assert not stale.exists()
    assert fresh.exists()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount the small tmpfs that runs full here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_no_space_left_is_said_and_leaves_no_half_file(small_disk, put):
    name = Path(shutil.copy(put(skeleton_of(4_000_000), "skeleton"), small_disk)).name

    with pytest.raises(AgentError, match="no space left") as caught:
        Files(str(small_disk)).paths([name])

    assert caught.value.kind == DISK_FULL
    assert os.listdir(small_disk) == [name]


@pytest.mark.parametrize("what", ["a pipe", "a folder", "a link", "a link to nothing"])
def test_what_is_no_file_in_a_file_s_place_is_removed_and_has_to_be_sent_again(folder, put, what):
    path = put(b"model")
    path.rename(folder / "elsewhere")
    if what == "a pipe":
        os.mkfifo(path)
    elif what == "a folder":
        (path / "more").mkdir(parents=True)
    else:
        path.symlink_to("elsewhere" if what == "a link" else "nowhere")
    begin = time.monotonic()

    with pytest.raises(AgentError, match="held something else and was removed: send it again") as caught:
        Files(str(folder)).paths([path.name])

    assert caught.value.kind == CORRUPT
    assert not os.path.lexists(path)
    assert (folder / "elsewhere").read_bytes() == b"model"
    assert time.monotonic() - begin < 1


def test_a_folder_that_others_may_write_to_is_not_used(folder, put):
    path = put(b"model")
    folder.chmod(0o777)
    with pytest.raises(
        AgentError, match=r"cannot use the agent's folder: others may write to .*: chmod go-w"
    ) as caught:
        Files(str(folder)).paths([path.name])

    assert caught.value.kind == BAD_REQUEST
    assert path.exists()
