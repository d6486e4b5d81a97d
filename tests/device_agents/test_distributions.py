import onnxruntime
import pytest

from device_agents import distributions


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to install into, on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def install(place, package, metadata=None):
    (place / package).mkdir()
    (place / package / "__init__.py").write_text("raise SystemExit('imported')")
    if metadata:
        (place / metadata).mkdir()


def test_the_version_is_the_one_that_an_import_would_tell():
    assert distributions.version("onnxruntime", "onnxruntime", "onnxruntime-gpu") == onnxruntime.__version__


def test_a_package_that_is_not_there_has_no_version():
    assert distributions.version("no_such_package") is None


@pytest.mark.parametrize("metadata", ["some_rt_gpu-1.2.3.dist-info", "some-rt-gpu-1.2.3-py3.6.egg-info"])
def test_another_distribution_s_name_counts_and_nothing_is_imported(place, metadata):
    install(place, "some_rt", metadata)

    assert distributions.version("some_rt", "some-rt", "some-rt-gpu") == "1.2.3"


def test_a_package_without_metadata_has_an_unknown_version(place):
    install(place, "some_rt", "some_rt_extras-1.0.dist-info")

    assert distributions.version("some_rt") == "unknown"
