"""Run the network of this bundle: python example.py IMAGE [IMAGE ...]

Prints the three likeliest classes of each image and the median time of one inference. Without an image it takes
random pixels, to show that the file runs. A network of signals takes files of numbers, .npy or a table with a channel a
line, in place of images. Needs what requirements.txt lists; Python 3.6 is enough.

The work is done by runtime.py beside it, which a program of yours imports the same way.
"""

import sys
from pathlib import Path
from typing import List

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True  # one file more, and the folder would no longer be what was written

from runtime import BundleError, Model, random_input  # noqa: E402

TIMED = 50


def main(paths: List[str]) -> None:
    try:
        model = Model.open(HERE)
    except BundleError as error:
        raise SystemExit(str(error))
    if not paths:
        print("no image given: these are random pixels, the answer means nothing")
        answer(model, model.read(random_input(model.input)))
    for path in paths:
        print(path)
        answer(model, model.read(path))


def answer(model: Model, batch: object) -> None:
    found = model.answer(batch)
    for index in (-found.probabilities).argsort()[:3]:
        print(f"  {found.probabilities[index]:6.2%}  {model.classes[index]}")
    print(f"  median of {TIMED} inferences: {model.median_ms(batch, TIMED):.3f} ms")


if __name__ == "__main__":
    main(sys.argv[1:])
