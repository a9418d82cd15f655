from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.store import Database, connect
from mesh.store.sqlite import SqliteDatabase
from tests.saga.rig import Till
from tests.store.postgresql import DATABASES, new_url


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each sort in turn."""
    return new_url(request.param, tmp_path / "orders.db")


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with connect(url) as database:
        yield database


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = connect(f"sqlite:///{tmp_path}/orders.db")
    assert isinstance(database, SqliteDatabase)
    async with database:
        yield database


@pytest.fixture
def till() -> Till:
    return Till()
