import io

import numpy
import pytest

from device_agents import npy
from device_agents.errors import AgentError
from device_agents.protocol import BAD_REQUEST


@pytest.fixture
def save(tmp_path):
    def save(array, **options):
        path = tmp_path / "images.npy"
        if isinstance(array, bytes):
            path.write_bytes(array)
        else:
            numpy.save(path, array, **options)
        return str(path)

    return save


def npy_bytes(array):
    file = io.BytesIO()
    numpy.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("shape", [(5, 3, 2, 2), (1, 4), (7,)])
def test_images_come_in_batches_the_last_one_shorter(save, shape):
    images = numpy.random.default_rng(0).random(shape, dtype=numpy.float32)

    batches = list(npy.images(save(images), 4))

    joined = numpy.concatenate([numpy.frombuffer(raw, "<f4").reshape(shape) for raw, shape in batches])
    assert (joined == images).all()
    assert max(shape[0] for _, shape in batches) <= 4


def test_the_format_with_a_long_header_is_read_too(tmp_path):
    images = numpy.ones((2, 3), dtype=numpy.float32)
    path = tmp_path / "images.npy"
    with path.open("wb") as file:
        numpy.lib.format.write_array(file, images, version=(2, 0))

    assert [shape for _, shape in npy.images(str(path), 8)] == [(2, 3)]


GOOD = npy_bytes(numpy.ones((2, 3), dtype=numpy.float32))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "no NumPy array"),
        (b"GIF89a..", "no NumPy array"),
        (GOOD[:9], "header"),
        (GOOD[:40], "header"),
        (GOOD[:-1], "another size"),
        (GOOD + b"x", "another size"),
        (numpy.ones((2, 3)), "<f8"),
        (numpy.asfortranarray(numpy.ones((2, 3), dtype=numpy.float32)), "Fortran"),
        (numpy.float32(1), "shape"),
        (numpy.ones((0, 3), dtype=numpy.float32), "shape"),
        (GOOD.replace(b"'descr'", b"'dexcr'"), "header"),
        (GOOD.replace(b"(2, 3)", b"[2, x]"), "header"),
    ],
)
def test_what_is_no_set_of_float32_images_is_refused(save, content, complaint):
    with pytest.raises(AgentError, match=complaint) as caught:
        list(npy.images(save(content), 4))

    assert caught.value.kind == BAD_REQUEST
