from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.events import Event, Message, Outbox
from mesh.store import Database, Transaction, connect
from mesh.store.migrate import COUNTED
from mesh.store.sqlite import SqliteDatabase
from tests.events.brokers import Running
from tests.store.postgresql import DATABASES, new_url, quiet

EFFECT = f"create table effect (place {COUNTED}, event_id text not null unique, what text not null)"


@pytest.fixture(scope="session")
async def brokers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """The brokers that tests share: each is started for the first of them, stopped at the end."""
    async with Running(tmp_path_factory.mktemp("brokers")) as running:
        yield running


@pytest.fixture(params=DATABASES)
def sort(request: pytest.FixtureRequest) -> str:
    """Which sort of database the test is about."""
    return str(request.param)


@pytest.fixture
def source_url(sort: str, tmp_path: Path) -> str:
    return new_url(sort, tmp_path / "orders.db")


@pytest.fixture
async def source(source_url: str) -> AsyncIterator[Database]:
    """The database of who tells."""
    async with quiet(source_url) as database:
        yield database


@pytest.fixture
def target_url(sort: str, tmp_path: Path) -> str:
    return new_url(sort, tmp_path / "notifications.db")


@pytest.fixture
async def target(target_url: str) -> AsyncIterator[Database]:
    """The database of who listens: a row is an effect, a second one of an event fails."""
    async with quiet(target_url) as database:
        await database.migrate("effects", [EFFECT])
        yield database


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    """The target, in a file."""
    database = connect(f"sqlite:///{tmp_path}/full.db")
    assert isinstance(database, SqliteDatabase)
    async with database:
        await database.migrate("effects", [EFFECT])
        yield database


async def appended(tx: Transaction, outbox: Outbox, *messages: Message) -> list[Event]:
    """Append messages; the events that they became."""
    newest = await outbox.newest(tx)
    for each in messages:
        await outbox.append(tx, each)
    return await outbox.after(tx, newest, max(1, len(messages)))
