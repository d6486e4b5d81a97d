"""What a format's file declares, and what is said where it lacks something."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.companions import runtime_with
from pipeline import plugins
from pipeline.errors import ConfigError, ModelError
from pipeline.export.format_plugin import FORMATS, model_format, require_usable, skeleton_of

WHOLE = """
import json

ENDING = "net"
RUNTIME = "a runtime"
PACKAGES = ("a-runtime",)

def open_format(base, example, *, support, on_note): ...

def open_network(path):
    import a_runtime as engine

    def network(batch):
        return np.asarray(engine.run(path, batch), np.float32)

    return network
"""
OPENS = WHOLE[WHOLE.index("def open_network") :]


def own(folder: Path, text: str = WHOLE) -> str:
    path = folder / "own.py"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", plugins.names(FORMATS))
def test_formats_that_ship_are_called_as_their_files_end(name: str) -> None:
    """Runs of before formats had names of their own are pulled by that."""
    assert (model_format(name).name, model_format(name).file) == (name, f"model.{name}")


def test_a_file_declares_all_that_a_bundle_and_a_device_need(tmp_path: Path) -> None:
    found = model_format(own(tmp_path))
    assert (found.name, found.file, found.runtime, found.packages) == (
        "own.py", "model.net", "a runtime", ("a-runtime",),
    )  # fmt: skip
    assert OPENS.strip() in runtime_with(found.opening)


def test_what_is_optional_may_be_left_out(tmp_path: Path) -> None:
    assert skeleton_of(own(tmp_path), b"anything") is None
    require_usable(own(tmp_path), b"anything", None, shown="a.net")
    with pytest.raises(ModelError, match=r"a\.onnx is not a valid ONNX file"):
        require_usable("onnx", b"anything", None, shown="a.onnx")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('ENDING = "net"', "", r'has no ENDING, how its files\' names end: ENDING = "onnx"; see docs/extending/format'),
        ('RUNTIME = "a runtime"', "", "has no RUNTIME, what runs its files"),
        ('PACKAGES = ("a-runtime",)', "", "has no PACKAGES, what opens them"),
        (
            "def open_network(path)",
            "def opens(path)",
            r"has no open_network, what opens a file in a bundle's runtime\.py",
        ),
        ("def open_format", "def opens", "has no function open_format"),
        ('"net"', '"Net 1"', "ENDING is 'Net 1', expected up to 16 small letters and digits"),
        ('"net"', '"skeleton"', "ENDING is 'skeleton', expected"),
        ('("a-runtime",)', '"a-runtime"', "PACKAGES is 'a-runtime', expected a tuple of names"),
        ("engine.run(", "json.dumps(engine.run(", "SyntaxError"),
        ("np.float32", "HERE", r"is copied into bundles alone; import or define HERE in it"),
        ("return network", "return network if (n := 1) else None", "has to be Python 3.6: "),
        (OPENS, "open_network = open_format\n", "has to be written as def open_network"),
        (OPENS, "open_network = print\n", "open_network has no source to be copied"),
    ],
)
def test_what_a_format_lacks_is_told_with_what_it_looks_like(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        model_format(own(tmp_path, WHOLE.replace(old, new)))


def test_names_that_the_example_gives_and_those_bound_inside_are_no_mistake(tmp_path: Path) -> None:
    inside = """def open_network(path: str) -> Network:
    from os import path as paths, sep

    try:
        values = [json.loads(line) for line in Path(path).read_text().split(sep)]
    except ValueError as error:
        raise TypeError(str(error))

    class Model:
        def __call__(self, *batch: np.ndarray, **options: Any) -> np.ndarray:
            return np.array([paths, values, self, batch, options])

    return Model()
"""
    text = f"from __future__ import annotations\n{WHOLE.replace(OPENS, inside)}"
    assert model_format(own(tmp_path, text)).opening == inside
