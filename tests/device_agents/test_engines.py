import os

import pytest

from device_agents import engines


@pytest.fixture
def engine(tmp_path):
    """The path of an engine that was just written."""
    path = tmp_path / "some.engine"
    engines.write(str(path), b"\x00code\nmore code", {"precision": "fp16"})
    return path


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"weights")
    return str(path)


def test_an_engine_comes_back_with_what_is_to_be_said_about_it(engine):
    assert engines.read(str(engine)) == (b"\x00code\nmore code", {"precision": "fp16"})


def test_nobody_else_can_read_or_write_it_and_no_part_is_left(engine, tmp_path):
    assert engine.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["some.engine"]


def test_reading_it_marks_it_as_used(engine):
    os.utime(engine, (0, 0))
    engines.read(str(engine))

    assert engine.stat().st_atime > 0


@pytest.mark.parametrize("mode", [0o644, 0o620, 0o602])
def test_one_that_others_may_touch_is_not_loaded(engine, mode):
    engine.chmod(mode)

    with pytest.raises(engines.EngineError, match="not this user's alone"):
        engines.read(str(engine))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_s_file_is_not_loaded(engine):
    os.chown(engine, 12345, -1)

    with pytest.raises(engines.EngineError, match="not this user's alone"):
        engines.read(str(engine))


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x01", b"[]\ncode", b'{"sha256": "00"}\ncode', b'{"sha256": "00", "about": {}}\ncode']
)
def test_what_the_agent_did_not_write_is_not_loaded(engine, content):
    engine.write_bytes(content)

    with pytest.raises(engines.EngineError, match="it is not loaded"):
        engines.read(str(engine))


def test_one_changed_byte_is_noticed(engine):
    engine.write_bytes(engine.read_bytes()[:-1] + b"!")

    with pytest.raises(engines.EngineError, match="damaged"):
        engines.read(str(engine))


RECIPE = {"fp16": True, "workspace_mb": 256, "tensorrt": "8.2.1.8", "gpu": "NVIDIA Tegra X1 sm_53", "power_mode": "0"}


@pytest.mark.parametrize(
    ("name", "other"),
    [("fp16", False), ("workspace_mb", 128), ("tensorrt", "8.0.1.6"), ("gpu", "Orin sm_87"), ("power_mode", "1")],
)
def test_whatever_decides_an_engine_names_another(model, name, other):
    assert engines.path(model, RECIPE) != engines.path(model, dict(RECIPE, **{name: other}))


def test_the_model_s_content_counts_and_its_name_does_not(model, tmp_path):
    same, changed = tmp_path / "same.onnx", tmp_path / "changed.onnx"
    same.write_bytes(b"weights")
    changed.write_bytes(b"Weights")

    assert engines.path(model, RECIPE) == engines.path(str(same), RECIPE) != engines.path(str(changed), RECIPE)
    assert engines.path(model, RECIPE).startswith(f"{tmp_path}/")
