"""What trains: the processor, or a GPU where there is one."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.training.accelerator import Accelerator, cpu, device_of, open_accelerator
from pipeline.training.settings import FineTuning
from pipeline.training.trainer import fine_tune
from tests.pipeline.training.images import Blobs, forgetful

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")


@no_gpu
def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_an_error() -> None:
    assert open_accelerator("auto") == open_accelerator("cpu") == cpu()
    with pytest.raises(ConfigError, match=r"accelerator: cuda, but torch .* finds no GPU; .*accelerator: auto"):
        open_accelerator("cuda")


def test_full_precision_and_half_precision_both_learn() -> None:
    for half in (None, torch.bfloat16):
        model, losses = forgetful(), []
        on = Accelerator(torch.device("cpu"), half)
        told = FineTuning(epochs=6, batch_size=32, learning_rate=0.05)
        fine_tune(model, Blobs(), told, accelerator=on, on_step=lambda *said: losses.append(said[2]))  # noqa: B023
        assert sum(losses[-3:]) < 0.7 * sum(losses[:3])


def test_a_network_comes_back_however_the_training_ends() -> None:
    model = forgetful()
    with pytest.raises(KeyboardInterrupt), cpu().holding(model):
        raise KeyboardInterrupt
    assert device_of(model) == torch.device("cpu")
    assert device_of(nn.Identity()) == torch.device("cpu")


def test_the_global_generator_is_as_before_and_its_draws_can_be_taken_up_again() -> None:
    before, on = torch.get_rng_state(), cpu()
    with on.seeded(5):
        states, first = on.draws(), torch.rand(3)
        on.draw_on(states)
        assert torch.equal(torch.rand(3), first)
    assert torch.equal(torch.get_rng_state(), before)


@gpu
def test_a_gpu_learns_in_half_precision_and_gives_the_network_back() -> None:
    model, teacher, losses = forgetful(), forgetful(7), []
    on = open_accelerator("cuda")
    assert on.half in (torch.bfloat16, torch.float16)
    told = FineTuning(epochs=6, batch_size=32, learning_rate=0.05)
    fine_tune(model, Blobs(), told, teacher=teacher, accelerator=on, on_step=lambda *said: losses.append(said[2]))
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
    assert device_of(model) == device_of(teacher) == torch.device("cpu")


FAULTS = """
import resource, sys, torch
from pipeline.training.accelerator import keep_freed_memory
if sys.argv[1:]:
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def layers():
    return [torch.ones(5 << 20) for _ in range(5)]  # 20 MiB each
for _ in range(5):
    layers()
before = faults()
for _ in range(5):
    layers()
print(faults() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to")
def test_memory_that_was_freed_is_not_asked_for_again(monkeypatch) -> None:
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "131072")  # else chance decides what is given back
    given_back, kept = (
        int(subprocess.run([sys.executable, "-c", FAULTS, *told], check=True, capture_output=True, text=True).stdout)
        for told in ([], ["keep"])
    )
    assert kept < 30 < given_back  # pages of 4 KiB, or of 2 MiB where the system gives large ones
