"""A site that sends NaN in the first round and is killed while it learns in the second: it takes HOST:PORT."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from pathlib import Path

import numpy as np
from flwr.common import FitIns, FitRes, Parameters
from safetensors.numpy import load, save

from pipeline.federated.address import address_of
from pipeline.federated.flower_client import Participant, take_part
from pipeline.federated.site import Site
from pipeline.store import Store


class Hostile(Participant):
    def fit(self, ins: FitIns) -> FitRes:
        if ins.config["round"] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = super().fit(ins)
        weights = {name: np.full_like(values, np.nan) for name, values in load(answer.parameters.tensors[0]).items()}
        answer.parameters = Parameters(tensors=[save(weights)], tensor_type=answer.parameters.tensor_type)
        return answer


def said(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


def main(address: str) -> None:
    with Store.open(Path("runs"), "latest", write=True) as store:
        site = Site(store, "hostile", uuid.uuid4().hex)
        take_part(Hostile(site, said), address_of(address), None, 60.0, said)


main(*sys.argv[1:])
