"""What a hostile board answers about its deployed bundles is a record within its bounds, or refused in a sentence."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.answers import Answer, Deployed, Offered, SelfTested, Staged, Switched, Trusted

PEM = "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"
VERSION = {"name": "0001-0123456789ab", "title": "run-a1", "version": "0" * 64, "bytes": 1, "deployed": "2026-12-01",
           "by": "ann@host", "checked": "board"}  # fmt: skip
HONEST: dict[type[Answer], dict[str, Any]] = {
    Deployed: {"folder": "/home/pi/x", "current": VERSION, "previous": None, "problem": None, "trusted": [PEM],
               "contents": ["0" * 64], "free_bytes": 10**9, "verifier": True},
    Trusted: {"trusted": [PEM]},
    Staged: {"name": "0002-0123456789ab", "signature": "valid", "key": "0" * 64},
    SelfTested: {"file": "model.onnx", "inputs": 4, "difference": 0.0, "tolerance": 1e-3, "ok": True, "seconds": 0.1},
    Offered: {"file": f"{'0' * 64}.onnx"},
    Switched: {"current": VERSION, "previous": None},
}  # fmt: skip
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("kind", HONEST)
def test_an_honest_answer_is_taken(kind: type[Answer]) -> None:
    assert kind.of(HONEST[kind]).model_dump().keys() >= HONEST[kind].keys()


@pytest.mark.parametrize("kind", HONEST)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_one_with_anything_in_it_is_taken_as_it_is_or_refused(kind: type[Answer], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(HONEST[kind])))
    spoilt = {**HONEST[kind], key: data.draw(ANYTHING)}
    try:
        found = kind.of(spoilt)
    except ValueError:
        return
    assert kind.of(found.model_dump()) == found


@pytest.mark.parametrize(
    ("kind", "spoilt"),
    [
        (Staged, {"name": "../../etc"}),
        (Offered, {"file": "../../etc/passwd"}),
        (Deployed, {"trusted": ["$(reboot)"]}),
        (Deployed, {"contents": ["0" * 64] * 201}),
        (SelfTested, {"difference": float("nan")}),
        (Switched, {"current": {**VERSION, "name": "0001-0123456789ab/../x"}}),
    ],
)
def test_a_name_that_leads_elsewhere_or_a_figure_that_is_none_is_refused(
    kind: type[Answer], spoilt: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="makes no sense"):
        kind.of({**HONEST[kind], **spoilt})
