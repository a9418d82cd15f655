from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from mesh.store import Database, Transaction, connect
from mesh.store.sqlite import SqliteDatabase

LIST = "create table list (item text primary key)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[SqliteDatabase]:
    """A database with one table, `list`."""
    database = connect(f"sqlite:///{path}")
    assert isinstance(database, SqliteDatabase)
    async with database:
        await database.migrate("list", [LIST])
        yield database


def insert(item: str) -> Callable[[Transaction], Awaitable[str]]:
    async def work(tx: Transaction) -> str:
        await tx.execute("insert into list values ($1)", item)
        return item

    return work


async def items(database: Database) -> list[str]:
    async def work(tx: Transaction) -> list[str]:
        return [row["item"] for row in await tx.fetch("select item from list order by rowid")]

    return await database.read(work)
