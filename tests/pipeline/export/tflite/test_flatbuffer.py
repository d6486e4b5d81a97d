"""TFLite files as objects: what lies behind a file's tables is part of them."""

from __future__ import annotations

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from pipeline.export.tflite import flatbuffer
from pipeline.export.tflite.interpreter import answers
from tests.pipeline.export.tflite.tiny import CONVERTED, IMAGES


def with_outside_buffers(data: bytes) -> bytes:
    """The same file as writers of large ones leave it: the bytes of its buffers behind the tables."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    contents = {i: b.data.tobytes() for i, b in enumerate(model.buffers) if b.data is not None and len(b.data) >= 64}
    assert len(contents) > 10
    for number in contents:
        model.buffers[number] = schema.BufferT(None, 1, 1)
    place, behind = -(-len(packed(model)) // 16) * 16, b""
    for number, content in contents.items():
        model.buffers[number].offset, model.buffers[number].size = place + len(behind), len(content)
        behind += content + bytes(-len(content) % 16)
    return packed(model).ljust(place, b"\0") + behind


def packed(model: schema.ModelT) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=flatbuffer.FILE_IDENTIFIER)
    return bytes(builder.Output())


def test_buffers_behind_the_tables_are_read_and_written_into_them() -> None:
    outside = with_outside_buffers(CONVERTED.read_bytes())
    expected = answers(CONVERTED.read_bytes(), IMAGES.numpy())
    assert np.array_equal(answers(outside, IMAGES.numpy()), expected)  # LiteRT takes it, too
    written = flatbuffer.write(flatbuffer.read(outside))
    assert np.array_equal(answers(written, IMAGES.numpy()), expected)
    assert all(buffer.offset == 0 for buffer in schema.ModelT.InitFromPackedBuf(written, 0).buffers)


def test_a_file_whose_buffers_were_cut_off_is_told() -> None:
    outside = with_outside_buffers(CONVERTED.read_bytes())
    with pytest.raises(ValueError, match=r"a buffer of it would end at byte \d+, and it has \d+"):
        flatbuffer.read(outside[:-64])
