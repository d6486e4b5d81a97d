"""Run the network of this bundle: python example.py [INPUTS.npz [OUTPUTS.npz]]

INPUTS.npz holds an array for each input in the order of manifest.json, a batch of one, as the network takes it (pixels
normalised as the manifest says); without it random values show that the file runs. Prints each output's shape and range
and the median time of one inference; OUTPUTS.npz is written with the outputs under their names. Needs what
requirements.txt lists; Python 3.6 is enough.

The work is done by runtime.py beside it, which a program of yours imports the same way.
"""

import sys
from pathlib import Path
from typing import List

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True  # one file more, and the folder would no longer be what was written

from runtime import BundleError, Model, open_arrays, random_arrays  # noqa: E402

TIMED = 50


def main(paths: List[str]) -> None:
    try:
        model = Model.open(HERE)
        inputs = open_arrays(paths[0], model.task) if paths else random_arrays(model.task)
    except BundleError as error:
        raise SystemExit(str(error))
    if not paths:
        print("no inputs given: these are random values, the answer means nothing")
    outputs = model.run(inputs)
    for name, values in outputs.items():
        shape = "x".join(map(str, values.shape))
        print("  %s  %s  from %.4g to %.4g" % (name, shape, values.min(), values.max()))
    if len(paths) > 1:
        np.savez(paths[1], **outputs)
    print("  median of %d inferences: %.3f ms" % (TIMED, model.median_ms(inputs, TIMED)))


if __name__ == "__main__":
    main(sys.argv[1:])
