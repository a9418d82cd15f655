from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from mesh.store import Database, Transaction, connect
from mesh.store.migrate import COUNTED
from mesh.store.sqlite import SqliteDatabase
from tests.store.postgresql import DATABASES, new_url, quiet

LIST = f"create table list (place {COUNTED}, item text unique)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.db"


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, path: Path) -> str:
    """The URL of an empty database, of each sort in turn."""
    return new_url(request.param, path)


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """A database with one table, `list`; of each sort in turn."""
    async with quiet(url) as database:
        await database.migrate("list", [LIST])
        yield database


@pytest.fixture
async def sqlite(path: Path) -> AsyncIterator[SqliteDatabase]:
    """A database with one table, `list`, in a file."""
    database = connect(f"sqlite:///{path}")
    assert isinstance(database, SqliteDatabase)
    async with database:
        await database.migrate("list", [LIST])
        yield database


def insert(item: str) -> Callable[[Transaction], Awaitable[str]]:
    async def work(tx: Transaction) -> str:
        await tx.execute("insert into list (item) values ($1)", item)
        return item

    return work


async def items(database: Database) -> list[str]:
    async def work(tx: Transaction) -> list[str]:
        return [row["item"] for row in await tx.fetch("select item from list order by place")]

    return await database.read(work)
