"""A PostgreSQL that crashes, comes back, or stays away: what was told is kept, and said."""

import asyncio
import signal
from collections.abc import Iterator

import pytest

from mesh.store import (
    StoreBusy,
)
from scripts.measuring.postgresql import Server, Unavailable, cluster
from tests.store.conftest import LIST, insert, items

psycopg = pytest.importorskip("psycopg")

from mesh.store.postgres import PostgresDatabase  # noqa: E402


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server that the test may crash."""
    try:
        with cluster() as server:
            yield server
    except Unavailable as why:
        pytest.skip(f"no PostgreSQL: {why}")


async def test_a_server_that_crashes_and_comes_back_has_lost_nothing(own: Server) -> None:
    async with PostgresDatabase(own.new_database(), look_seconds=60.0) as database:
        await database.migrate("list", [LIST])
        changes = database.changes()
        await anext(changes)
        for n in range(20):
            await database.transaction(insert(f"before {n}"))
        await asyncio.to_thread(own.stop, signal.SIGQUIT)
        waiting = [
            asyncio.create_task(database.transaction(insert(f"during {n}"))) for n in range(20)
        ]
        await asyncio.to_thread(own.start)
        await asyncio.wait_for(asyncio.gather(*waiting), 20)
        async with asyncio.timeout(5):
            await anext(changes)
        kept = await items(database)
    assert sorted(kept) == sorted(f"{when} {n}" for when in ("before", "during") for n in range(20))


async def test_a_server_that_stays_away_makes_it_busy(own: Server) -> None:
    async with PostgresDatabase(own.new_database(), patience=0.2) as database:
        await asyncio.to_thread(own.stop)
        try:
            with pytest.raises(StoreBusy, match=r"^postgresql://127"):
                await database.transaction(insert("a"))
            with pytest.raises(StoreBusy):
                await items(database)
        finally:
            await asyncio.to_thread(own.start)
        await database.migrate("list", [LIST])
        await database.transaction(insert("a"))
        assert await items(database) == ["a"]
