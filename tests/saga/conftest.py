from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.store import connect
from mesh.store.sqlite import SqliteDatabase
from tests.saga.rig import Till


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = connect(f"sqlite:///{tmp_path}/orders.db")
    assert isinstance(database, SqliteDatabase)
    async with database:
        yield database


@pytest.fixture
def till() -> Till:
    return Till()
