from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.store import connect
from mesh.store.sqlite import SqliteDatabase


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    """The database of who tells."""
    database = connect(f"sqlite:///{tmp_path}/orders.db")
    assert isinstance(database, SqliteDatabase)
    async with database:
        yield database


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    """The database of who listens: a row is an effect, a second one of an event fails."""
    database = connect(f"sqlite:///{tmp_path}/notifications.db")
    assert isinstance(database, SqliteDatabase)
    async with database:
        await database.migrate(
            "effects", ["create table effect (event_id text primary key, what text not null)"]
        )
        yield database
