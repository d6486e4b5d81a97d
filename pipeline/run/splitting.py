"""Stored splits: drawn once, so that a resumed run trains, searches and tests on the same images."""

from __future__ import annotations

from pipeline.data import DataSet, Splits, read_splits
from pipeline.store import Store
from pipeline.store.facts import SKIPPED, SPLITS, StoredSplits


def stored_splits(store: Store) -> Splits | None:
    """Return the splits that the run began with; None where it has stored none yet.

    Raises:
        DataError: they are damaged.
        StoreError: the blob is gone.
    """
    known = store.get(SPLITS)
    return None if known is None else read_splits(store.blob(known["blob"]))


def store_splits(store: Store, data: DataSet) -> None:
    """Store a data set's splits and the images it left out, unless the run has splits already."""
    splits = data.splits
    if store.get(SPLITS) is not None or splits is None:
        return
    blob = store.put_blob(splits.to_bytes())
    store.set(SKIPPED, list(data.skipped))
    stored = StoredSplits(
        blob=blob, images=splits.images, checksum=splits.checksum, train=len(data.train), search=len(data.search),
        val=len(data.val), test=len(data.test),
    )  # fmt: skip
    store.set(SPLITS, stored)
