"""Readers see every commit made before they asked, and hear of the later ones."""

import asyncio
import sqlite3
import sys
import time
from pathlib import Path

import pytest

from mesh.store import Database, StoreError, Transaction, connect
from mesh.store.sqlite import SqliteDatabase
from tests.store.conftest import insert, items


async def test_a_read_sees_what_was_committed_before_it(database: Database) -> None:
    async def write_then_read(n: int) -> bool:
        await database.transaction(insert(str(n)))
        return str(n) in await items(database)

    assert all(await asyncio.gather(*(write_then_read(n) for n in range(300))))


async def test_a_read_may_not_write(database: Database) -> None:
    with pytest.raises(StoreError, match=r"read-?only"):
        await database.read(insert("a"))
    assert await items(database) == []


async def test_a_read_is_one_snapshot(sqlite: SqliteDatabase, path: Path) -> None:
    foreign = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    async def twice(tx: Transaction) -> tuple[int, int]:
        first = len(await tx.fetch("select * from list"))
        foreign.execute("insert into list (item) values ('meanwhile')")
        return first, len(await tx.fetch("select * from list"))

    assert await sqlite.read(twice) == (0, 0)
    foreign.close()


async def test_changes_yields_at_once_and_after_each_commit(database: Database) -> None:
    changes = database.changes()
    async with asyncio.timeout(5):
        await anext(changes)
        for n in range(20):
            await database.transaction(insert(str(n)))
            while str(n) not in await items(database):
                await anext(changes)


async def quiet(changes: object) -> bool:
    """Whether nothing is heard for three looks."""
    try:
        async with asyncio.timeout(0.15):
            await anext(changes)  # type: ignore[call-overload]
    except TimeoutError:
        return True
    return False


async def settled(database: Database) -> object:
    changes = database.changes()
    while not await quiet(changes):
        pass
    return changes


async def test_reads_and_failed_works_are_no_change(database: Database) -> None:
    changes = await settled(database)
    await items(database)
    await database.transaction(lambda tx: tx.fetch("select * from list"))
    assert await quiet(changes)


async def test_commits_between_two_items_are_one_item(database: Database) -> None:
    changes = await settled(database)
    await asyncio.gather(*(database.transaction(insert(str(n))) for n in range(200)))
    await asyncio.sleep(0.1)
    assert not await quiet(changes)
    assert await quiet(changes)


async def test_every_listener_hears_of_a_change(database: Database) -> None:
    listeners = [await settled(database) for _ in range(3)]
    await database.transaction(insert("a"))
    assert not any([await quiet(changes) for changes in listeners])


async def test_a_commit_through_another_connection_is_heard_within_200_ms(
    database: Database, url: str
) -> None:
    async with connect(url) as other:
        changes = await settled(database)
        await other.transaction(insert("theirs"))
        committed = time.monotonic()
        async with asyncio.timeout(10):
            await anext(changes)  # type: ignore[call-overload]
    assert time.monotonic() - committed < 0.2
    assert await items(database) == ["theirs"]


async def test_changes_end_when_the_database_is_closed(url: str) -> None:
    async def count(database: object) -> int:
        return len([None async for _ in database.changes()])  # type: ignore[attr-defined]

    async with connect(url) as database:
        counting = asyncio.create_task(count(database))
        await asyncio.sleep(0)
    assert await asyncio.wait_for(counting, 5) >= 1


async def test_a_commit_by_another_process_is_heard_within_200_ms(
    sqlite: SqliteDatabase, path: Path
) -> None:
    script = (
        "import sqlite3, sys, time\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "sys.stdin.readline()\n"
        "c.execute(\"insert into list (item) values ('theirs')\")\n"
        "print(time.time(), flush=True)\n"
        "sys.stdin.readline()\n"
    )
    changes = await settled(sqlite)
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(path), stdin=-1, stdout=-1
    )
    assert other.stdin
    assert other.stdout
    other.stdin.write(b"go\n")
    async with asyncio.timeout(10):
        await anext(changes)  # type: ignore[call-overload]
    heard = time.time()
    assert await items(sqlite) == ["theirs"]
    assert heard - float(await other.stdout.readline()) < 0.2
    other.stdin.close()
    await other.wait()
