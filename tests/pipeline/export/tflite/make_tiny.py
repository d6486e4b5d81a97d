"""Write tiny.tflite anew, with the converter that the pipeline itself uses."""

from __future__ import annotations

from pipeline.export.tflite.converter import convert
from pipeline.export.tflite.environment import converter_python
from tests.pipeline.export.tflite.tiny import CONVERTED, IMAGES, tiny

if __name__ == "__main__":
    CONVERTED.write_bytes(convert(converter_python(print), tiny(), IMAGES))
    print(f"{CONVERTED}: {CONVERTED.stat().st_size} bytes")  # noqa: T201
