import json
import time

import pytest

from device_agents.runtimes import null


@pytest.fixture
def load(tmp_path):
    def load(**behaviour):
        path = tmp_path / "model.json"
        path.write_text(json.dumps(behaviour))
        return null.load(str(path), {"threads": 1}, 0)

    return load


@pytest.mark.parametrize("burn", [False, True])
def test_an_inference_takes_the_time_it_is_told(load, burn):
    model = load(ms=100.0, burn=burn)
    start, busy = time.perf_counter(), time.process_time()
    model.step()

    assert time.perf_counter() - start >= 0.1
    assert (time.process_time() - busy > 0.01) is burn  # burning gets at least a tenth of a busy core


def test_every_image_gets_the_same_answer(load):
    assert load(outputs=[0.0, 1.0]).outputs(b"", (3,)) == bytes.fromhex("000000000000803f") * 3


def test_it_fails_when_told(load):
    model = load(fail_after=2)
    model.step()
    model.step()

    with pytest.raises(RuntimeError):
        model.step()
