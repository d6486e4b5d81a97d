"""Settings of a stored run, as this version reads them."""

from __future__ import annotations

from pydantic import ValidationError

from pipeline.config import RunConfig
from pipeline.errors import UserError
from pipeline.store import Store
from pipeline.store.facts import CONFIG


def config_of(store: Store) -> RunConfig:
    """Return the settings that a run began with.

    Raises:
        StoreError: there are none.
        UserError: another version stored them.
    """
    written = store.required(CONFIG)
    try:
        return RunConfig.model_validate({"precision": "float32", **written})  # older versions knew no other
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(
            f"run {store.id} began with settings of another version of this program ({where}: "
            f"{error.errors()[0]['msg']}); resume it with that version, or start a new run"
        ) from error
