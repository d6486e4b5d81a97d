"""Write tiny.tflite and signals.tflite anew, with the converter that the pipeline itself uses."""

from __future__ import annotations

from pipeline.export.tflite.converter import convert
from pipeline.export.tflite.environment import converter_python
from tests.pipeline.export.tflite import signals, tiny

if __name__ == "__main__":
    python = converter_python(print)
    tiny.CONVERTED.write_bytes(convert(python, tiny.tiny(), tiny.IMAGES))
    signals.CONVERTED.write_bytes(convert(python, signals.of_signals(), signals.SIGNALS))
    for file in (tiny.CONVERTED, signals.CONVERTED):
        print(f"{file}: {file.stat().st_size} bytes")  # noqa: T201
