"""Run by the converter's own Python, which has no pipeline: an exported program in, a TFLite file out.

    python converting.py PROGRAM.pt2 MODEL.tflite

The program is one that the pipeline has just written into a folder of its own.
"""

import sys


def main(program_path: str, model_path: str) -> None:
    """Convert; errors go to standard error, as Python does."""
    import litert_torch  # here, not above: the pipeline's own Python, which has none, may import this file
    import torch

    program = torch.export.load(program_path)
    arguments, _ = program.example_inputs
    litert_torch.convert(program.module(), tuple(arguments)).export(model_path)


if __name__ == "__main__":
    main(*sys.argv[1:])
