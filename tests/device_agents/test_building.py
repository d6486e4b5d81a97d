"""Engines built by the real agent in real processes that wait, refuse and die as they are told, under each Python."""

import io
import os
import signal
import subprocess
import sys

import numpy
import pytest

from device_agents import building, protocol
from tests.device_agents.harness import ANSWER_WITHIN_S, descendants, eventually, running

ENGINE = {
    "runtime": "null_engine", "build_timeout_s": 30,
    "warmup_s": 0.01, "min_s": 0.05, "max_s": 0.5, "block_s": 0.01, "ci_rel": 0.5, "timeout_s": 30,
}  # fmt: skip


@pytest.fixture
def engines(tmp_path):
    """Return the engines' files in the agent's folder."""
    return lambda: sorted((tmp_path / "files").glob("*.engine"))


def builds(agent):
    return [event for event in agent.events if event.get("stage") == "build"]


def test_an_engine_is_built_once_and_kept_for_the_next_time(each_agent, put, engines):
    agent = each_agent
    candidate, reference = put({"ms": 1.0}), put({"ms": 2.0})

    first = agent.result("measure", candidate=candidate, reference=reference, **ENGINE)
    stamps = [path.stat().st_ino for path in engines()]
    told = len(builds(agent))
    agent.result("measure", candidate=candidate, reference=reference, **ENGINE)

    assert first["conditions"]["workspace_mb"] == 256
    assert first["candidate"]["blocks"]
    assert len(stamps) == 2
    assert [path.stat().st_ino for path in engines()] == stamps
    assert told >= 1
    assert len(builds(agent)) == told  # nothing was built the second time


def test_other_options_make_another_engine(agent, put, engines):
    model = put({})
    for workspace_mb in (64, 128):
        result = agent.result("measure", candidate=model, options={"workspace_mb": workspace_mb}, **ENGINE)
        assert result["conditions"]["workspace_mb"] == workspace_mb

    assert len(engines()) == 2


def test_a_long_build_is_told_of_while_it_lasts_and_is_no_part_of_loading(agent, put):
    result = agent.result("measure", candidate=put({"build_ms": 1500}), **ENGINE)

    assert len(builds(agent)) >= 2
    assert result["candidate"]["load_ms"] < 1500


def test_a_build_that_the_kernel_killed_is_tried_once_more_in_half_the_workspace(agent, put):
    result = agent.result("measure", candidate=put({"build_needs_mb": 200}), **ENGINE)

    assert result["conditions"]["workspace_mb"] == 128


def test_where_half_is_too_much_as_well_it_is_refused_with_all_that_was_tried(agent, put, engines):
    error = agent.error("measure", candidate=put({"build_needs_mb": 100, "build_says": "allocating\n"}), **ENGINE)

    assert error["kind"] == protocol.REFUSED
    assert "with 256 MB of workspace: the build was killed by SIGKILL" in error["message"]
    assert "with 128 MB of workspace: the build was killed by SIGKILL" in error["message"]
    assert "allocating" in error["message"]
    assert "lower workspace_mb" in error["message"]
    assert engines() == []


def test_what_the_runtime_says_of_memory_before_it_gives_up_counts_too(agent, put):
    says = "[E] [TRT] 1: [defaultAllocator.cpp::allocate::20] Error Code 1: Cuda Runtime (out of memory)\n"
    error = agent.error("measure", candidate=put({"build_says": says, "build_refuse": "no engine"}), **ENGINE)

    assert error["message"].count("ValueError: no engine | [E] [TRT] 1:") == 2  # both attempts, in the runtime's words


def test_a_model_that_the_runtime_refuses_is_not_tried_again(agent, put):
    error = agent.error("measure", candidate=put({"build_refuse": "no importer for op NonZero"}), **ENGINE)

    assert error["kind"] == protocol.REFUSED
    assert error["message"] == (
        "no engine could be built; with 256 MB of workspace: ValueError: no importer for op NonZero"
    )


def test_a_build_that_takes_too_long_is_killed_and_says_which_limit_it_was(agent, put):
    error = agent.error("measure", candidate=put({"build_ms": 600_000}), **{**ENGINE, "build_timeout_s": 1})

    assert (error["kind"], error["message"]) == (
        protocol.TIMEOUT,
        "no engine after 1 s: raise measure.build_timeout_s",
    )
    assert eventually(lambda: descendants(agent.process.pid) == set())


@pytest.fixture
def build_under_way(each_agent, put):
    """An agent in the middle of a long build, and the processes of it."""
    agent = each_agent
    agent.send("measure", candidate=put({"build_ms": 600_000}), **ENGINE)
    assert eventually(lambda: len(descendants(agent.process.pid)) == 2)  # the worker that waits, and the build
    return agent, descendants(agent.process.pid)


def test_a_caller_who_hangs_up_ends_the_build(build_under_way):
    agent, family = build_under_way
    agent.close()

    assert eventually(lambda: not any(map(running, family)))


def test_an_agent_that_is_killed_takes_the_build_along(build_under_way):
    agent, family = build_under_way
    agent.process.send_signal(signal.SIGKILL)
    agent.process.wait(ANSWER_WITHIN_S)

    assert eventually(lambda: not any(map(running, family)))


def test_a_damaged_or_foreign_engine_is_built_anew(agent, put, engines):
    model = put({"ms": 1.0})
    agent.result("measure", candidate=model, **ENGINE)
    (engine,) = engines()
    good = engine.read_bytes()

    for spoil in (lambda: engine.write_bytes(b"something else"), lambda: engine.chmod(0o666)):
        spoil()
        assert agent.result("measure", candidate=model, **ENGINE)["candidate"]["blocks"]
        assert engine.read_bytes() == good
        assert engine.stat().st_mode & 0o777 == 0o600


def test_real_images_go_through_the_engine_too(agent, put, engines, images):
    result = agent.result(
        "verify", candidate=put({"outputs": [0.25]}), inputs=images, runtime="null_engine", build_timeout_s=30
    )

    assert result["shape"] == [2, 1]
    assert len(engines()) == 1


@pytest.fixture
def images(put):
    file = io.BytesIO()
    numpy.save(file, numpy.zeros((2, 3), "<f4"))
    return put(file.getvalue(), "npy")


def test_engines_count_in_the_folder_s_quota_and_the_longest_unused_go(start, put, engines):
    agent = start(sys.executable, "--quota-mb", "1")
    first = None
    for number in range(3):
        agent.result("measure", candidate=put({"padding": str(number) * 400_000}), **ENGINE)
        first = first or engines()[0]

    agent.result("measure", candidate=put({}), **ENGINE)  # tidies before it builds

    assert not first.exists()
    assert sum(path.stat().st_size for path in first.parent.iterdir()) < 1_010_000


@pytest.fixture
def small_disk(tmp_path):
    """The agent's folder of files, on a file system of one megabyte."""
    place = tmp_path / "files"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount the small tmpfs that runs full here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_no_space_left_is_the_board_s_failure_not_the_candidate_s_and_leaves_no_half_engine(small_disk, agent, put):
    name = put({"padding": "x" * 700_000})
    error = agent.error("measure", candidate=name, **ENGINE)

    assert error["kind"] == protocol.DISK_FULL
    assert [path.name for path in small_disk.iterdir()] == [name]


def test_an_unknown_option_is_named_with_those_there_are(agent, put):
    error = agent.error("measure", candidate=put({}), options={"workspace": 1}, **ENGINE)

    assert "unknown runtime option 'workspace'; known: workspace_mb" in error["message"]


@pytest.mark.parametrize(
    "words",
    [
        "was killed by SIGKILL (out of memory? see dmesg)",
        "ended with exit code 137: Killed",
        "MemoryError: TensorRT's builder gave no engine",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "[W] [TRT] Requested amount of GPU memory (15485030400 bytes) could not be allocated. There may not be enough",
        "OutOfMemory Error in nvinfer1::builder::LeafCNode::computeCosts: 0",
        "safeRuntime.cpp (25) - Cuda Error in allocate: 2 (out of memory)",
        "cudaErrorMemoryAllocation",
        "[W] Skipping tactic 3 due to insufficient memory on requesting of 512 detected for tactic 60.",
    ],
)
def test_every_way_of_running_out_of_memory_is_known(words):
    assert building.Failure(256, words).out_of_memory


@pytest.mark.parametrize(
    "words",
    [
        "ValueError: TensorRT 8.2.1.8 cannot read the file: In node 3 (importModel): UNSUPPORTED_NODE: no importer",
        "was killed by SIGSEGV",
        "ended with exit code 1: ImportError: libnvinfer.so.8",
    ],
)
def test_other_failures_are_not_taken_for_it(words):
    assert not building.Failure(256, words).out_of_memory
