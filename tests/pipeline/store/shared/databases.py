"""A database of runs, changed by another program."""

from __future__ import annotations

from sqlalchemy import create_engine, text

from pipeline.store.shared.url import SharedUrl


def sql(root: SharedUrl, *statements: str) -> None:
    """Execute statements in one transaction."""
    engine = create_engine(root.database)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()
