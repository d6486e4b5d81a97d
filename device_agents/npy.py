"""Arrays in NumPy's .npy format, read without NumPy: the header, then raw values in parts.

The format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import ast
import os
import struct
from typing import BinaryIO, Iterator, Tuple

from device_agents.errors import AgentError
from device_agents.protocol import BAD_REQUEST

_MAGIC = b"\x93NUMPY"


def images(path: str, batch: int) -> Iterator[Tuple[bytes, Tuple[int, ...]]]:
    """Yield the raw little-endian float32 values of ``batch`` images at a time, each with its shape.

    Raises:
        AgentError: BAD_REQUEST when the file is not float32 in C order with at least one image.
    """
    with open(path, "rb") as file:
        shape = _header(file)
        image_bytes = 4
        for length in shape[1:]:
            image_bytes *= length
        if os.fstat(file.fileno()).st_size - file.tell() != shape[0] * image_bytes:
            raise _bad("%s values expected, another size found" % (shape,))
        for first in range(0, shape[0], batch):
            count = min(batch, shape[0] - first)
            yield file.read(count * image_bytes), (count,) + shape[1:]


def _header(file: BinaryIO) -> Tuple[int, ...]:
    magic = file.read(8)
    if magic[:6] != _MAGIC or len(magic) != 8:
        raise _bad("no NumPy array")
    wide = magic[6] > 1  # format 1.0 has a two-byte length, 2.0 and 3.0 a four-byte one
    try:
        (length,) = struct.unpack("<I" if wide else "<H", file.read(4 if wide else 2))
        fields = ast.literal_eval(file.read(length).decode("utf-8"))
        descr, fortran, shape = fields["descr"], fields["fortran_order"], tuple(map(int, fields["shape"]))
    except (ValueError, SyntaxError, KeyError, TypeError, struct.error) as error:
        raise _bad("its header cannot be read: %r" % error)
    if descr != "<f4" or fortran or not shape or min(shape) < 1:
        raise _bad("%s of shape %s%s" % (descr, shape, " in Fortran order" if fortran else ""))
    return shape


def _bad(found: str) -> AgentError:
    return AgentError(BAD_REQUEST, "inputs: %s; expected float32, images first, in C order" % found)
