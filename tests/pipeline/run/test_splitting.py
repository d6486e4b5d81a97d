"""Splits are stored as a run begins, and stay what they were."""

from __future__ import annotations

from dataclasses import replace

import torch

from pipeline.run.splitting import store_splits, stored_splits
from pipeline.store import Store
from pipeline.store.facts import SKIPPED, SPLITS
from tests.pipeline.run.toy_run import toy_data


def test_a_run_that_has_stored_none_yet_draws_its_own(new_store: Store) -> None:
    assert stored_splits(new_store) is None


def test_a_resumed_run_has_the_splits_that_it_began_with(new_store: Store) -> None:
    data = replace(toy_data(), skipped=("broken.png",))
    store_splits(new_store, data)
    began = stored_splits(new_store)
    assert began is not None
    assert torch.equal(began.search, data.search.indices)
    told = new_store.required(SPLITS)
    assert (told["images"], told["train"], told["search"], told["val"], told["test"]) == (80, 40, 16, 12, 12)

    assert data.splits is not None
    other = replace(data, splits=replace(data.splits, search=data.splits.test), skipped=())
    store_splits(new_store, other)
    again = stored_splits(new_store)
    assert again is not None
    assert torch.equal(again.search, began.search)
    assert new_store.get(SKIPPED) == ["broken.png"]


def test_data_that_was_never_split_stores_nothing(new_store: Store) -> None:
    store_splits(new_store, replace(toy_data(), splits=None))
    assert new_store.get(SPLITS) is None
