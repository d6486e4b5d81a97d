"""A whole file answers on the device as on the host, or there is no artifact."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from pipeline.devices.agent_client import Agent, open_agent
from pipeline.devices.board_pool import BoardPool
from pipeline.errors import ExportError, MeasureError
from pipeline.records import VerifiedAccuracy
from pipeline.run.context import Context
from pipeline.run.device_verification import verify
from pipeline.store import Store
from pipeline.store.facts import VERIFIED
from tests.pipeline.listening import Listener
from tests.pipeline.run.toy_run import NullFiles, toy_context
from tests.recordings import dense, recorded, tape

ZEROS = json.dumps({"outputs": [1.0, 0.0, 0.0, 0.0]}).encode()
"""Answers class 0, as one of the two images that are asked is."""


@pytest.fixture
def heard() -> Listener:
    return Listener()


@pytest.fixture
def context(new_store: Store, null_agent: Agent, heard: Listener) -> Context:
    return toy_context(new_store, null_agent, heard)


def test_what_both_answer_right_is_stored_under_the_file_and_asked_once(context: Context, heard: Listener) -> None:
    verified = verify(context, ZEROS)
    assert verified == VerifiedAccuracy(0.5, 0.5, 2, 1.0)
    assert context.store.get(VERIFIED.of(sha256(ZEROS).hexdigest())) == verified
    sent = context.agent.bytes_sent
    assert verify(context, ZEROS) == verified
    assert context.agent.bytes_sent == sent
    assert heard.stages == ["Verify on the device with 2 images"]


def test_a_device_that_answers_otherwise_is_refused_and_nothing_is_stored(context: Context) -> None:
    lying = replace(context, format=NullFiles(context.example, host_answers=3))
    with pytest.raises(ExportError, match=r"answers 50.0% of 2 images right, the host 0.0%, with the same file"):
        verify(lying, ZEROS)
    assert context.store.get(VERIFIED.of(sha256(ZEROS).hexdigest())) is None


def test_in_int8_device_and_host_have_to_put_images_into_the_same_class(context: Context) -> None:
    """Of a few, one may be of another; here both are, though one in two is right on either."""
    lying = replace(context, format=NullFiles(context.example, host_answers=1, precision="int8"))
    with pytest.raises(ExportError, match=r"puts 0.0% of 2 images into the class that the host finds"):
        verify(lying, ZEROS)
    assert verify(replace(lying, format=NullFiles(context.example, precision="int8")), ZEROS).same_class == 1.0


def test_a_file_that_the_device_cannot_load_is_its_failure(context: Context) -> None:
    with pytest.raises(MeasureError, match="no such operator"):
        verify(context, json.dumps({"refuse": "no such operator"}).encode())


def test_a_recording_that_does_not_hold_the_file_is_not_verified_and_says_so(
    context: Context, heard: Listener, tmp_path: Path
) -> None:
    path = recorded(tmp_path, lambda agent: agent.telemetry())
    with open_agent(tape(path)) as agent:
        verified = verify(replace(context, boards=BoardPool.of(agent)), dense(seed=0))
    assert verified == VerifiedAccuracy(None, None, 0)
    (told,) = heard.notes
    assert told.startswith("not verified: ")
