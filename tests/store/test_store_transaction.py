"""Works share commits and nothing else: each stands or falls alone, and is told when durable."""

import asyncio
import sqlite3
import threading
from contextvars import ContextVar
from pathlib import Path

import pytest

from mesh.store import Database, StoreBusy, StoreError, Transaction, connect
from mesh.store.sqlite import SqliteDatabase
from tests.store.conftest import LIST, insert, items


async def test_a_transaction_answers_what_its_work_answers(database: Database) -> None:
    assert await database.transaction(insert("a")) == "a"
    assert await items(database) == ["a"]


async def test_many_works_share_few_commits(sqlite: SqliteDatabase) -> None:
    before = sqlite.commits
    await asyncio.gather(*(sqlite.transaction(insert(str(n))) for n in range(500)))
    assert sqlite.commits - before <= 50
    assert await items(sqlite) == [str(n) for n in range(500)]


async def test_a_work_that_raises_leaves_no_trace_and_the_others_stand(
    database: Database,
) -> None:
    async def half(tx: Transaction) -> None:
        await tx.execute("insert into list (item) values ('half')")
        raise LookupError("changed my mind")

    outcomes = await asyncio.gather(
        database.transaction(insert("a")),
        database.transaction(half),
        database.transaction(insert("a")),
        database.transaction(insert("b")),
        return_exceptions=True,
    )

    kinds = sorted(type(outcome).__name__ for outcome in outcomes)
    assert kinds == ["LookupError", "Violation", "str", "str"]
    assert sorted(await items(database)) == ["a", "b"]


async def test_a_savepoint_undoes_a_part_of_a_work(database: Database) -> None:
    async def part(tx: Transaction) -> None:
        async with tx.savepoint():
            await tx.execute("insert into list (item) values ('inside')")
            async with tx.savepoint():
                await tx.execute("insert into list (item) values ('deep inside')")
            raise LookupError

    async def work(tx: Transaction) -> None:
        await tx.execute("insert into list (item) values ('before')")
        with pytest.raises(LookupError):
            await part(tx)
        async with tx.savepoint():
            await tx.execute("insert into list (item) values ('after')")

    await database.transaction(work)
    assert await items(database) == ["before", "after"]


async def test_rows_are_read_by_name_and_counted(database: Database) -> None:
    async def work(tx: Transaction) -> tuple[object, ...]:
        added = await tx.execute("insert into list (item) values ($2), ($1)", "a", "b")
        row = await tx.fetchrow(
            "select item as it, length(item) + $1 as n from list order by item limit 1", 6
        )
        nothing = await tx.fetchrow("select 1 from list where item = $1", "z")
        gone = await tx.fetch("delete from list where item = $1 returning item", "b")
        return added, row and (row["it"], row["n"], row[0]), nothing, [r["item"] for r in gone]

    assert await database.transaction(work) == (2, ("a", 7, "a"), None, ["b"])


async def test_a_work_may_await_nothing_but_its_tx(database: Database) -> None:
    async def bare(tx: Transaction) -> None:
        await tx.fetch("select * from list")
        await asyncio.sleep(0)

    async def timer(tx: Transaction) -> None:
        await asyncio.sleep(1)

    async def nested(tx: Transaction) -> None:
        await database.transaction(insert("z"))

    for work in (bare, timer, nested):
        with pytest.raises(StoreError, match="may await only methods of its tx"):
            await database.transaction(work)
        with pytest.raises(StoreError, match="may await only methods of its tx"):
            await database.read(work)
    assert await items(database) == []


async def test_a_transaction_is_of_no_use_after_its_end(database: Database) -> None:
    kept: list[Transaction] = []

    async def keep(tx: Transaction) -> None:
        kept.append(tx)

    async def misuse(tx: Transaction) -> None:
        await kept[0].execute("insert into list (item) values ('late')")

    await database.transaction(keep)
    with pytest.raises(StoreError, match="has ended"):
        await database.transaction(misuse)


async def test_a_work_sees_the_context_of_its_caller(database: Database) -> None:
    trace: ContextVar[str] = ContextVar("trace", default="")

    async def work(tx: Transaction) -> str:
        return trace.get()

    trace.set("00-abc")
    assert await database.transaction(work) == "00-abc"
    assert await database.read(work) == "00-abc"


async def test_a_statement_that_is_wrong_names_the_database(database: Database) -> None:
    for sql in ("select nonsense", "insert into nowhere values (1)", "select $1, $2"):
        with pytest.raises(StoreError, match=r"^(/|postgresql://)") as failed:
            await database.transaction(lambda tx, sql=sql: tx.fetch(sql, 1))
        assert "secret" not in str(failed.value)


class Gate:
    """A work that holds the writer's thread until it is opened."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    async def __call__(self, tx: Transaction) -> None:
        self.entered.set()
        assert self.opened.wait(10)


async def test_a_caller_cancelled_before_its_work_begins_never_runs_it(
    sqlite: SqliteDatabase,
) -> None:
    gate = Gate()
    holding = asyncio.create_task(sqlite.transaction(gate))
    await asyncio.to_thread(gate.entered.wait, 10)
    waiting = asyncio.create_task(sqlite.transaction(insert("cancelled")))
    behind = asyncio.create_task(sqlite.transaction(insert("behind")))
    await asyncio.sleep(0)

    waiting.cancel()
    await asyncio.wait([waiting])
    gate.opened.set()
    await asyncio.gather(holding, behind)

    assert waiting.cancelled()
    assert await items(sqlite) == ["behind"]


async def test_a_caller_cancelled_after_its_work_began_finds_it_committed(
    sqlite: SqliteDatabase,
) -> None:
    gate = Gate()

    async def work(tx: Transaction) -> None:
        await tx.execute("insert into list (item) values ('begun')")
        await gate(tx)

    task = asyncio.create_task(sqlite.transaction(work))
    await asyncio.to_thread(gate.entered.wait, 10)
    task.cancel()
    await asyncio.wait([task])
    gate.opened.set()
    await sqlite.transaction(insert("after"))

    assert task.cancelled()
    assert await items(sqlite) == ["begun", "after"]


async def test_more_works_than_there_is_room_for_wait_their_turn(sqlite: SqliteDatabase) -> None:
    await asyncio.gather(*(sqlite.transaction(insert(str(n))) for n in range(3000)))
    assert len(await items(sqlite)) == 3000


async def test_closing_finishes_what_was_submitted_and_refuses_the_rest(url: str) -> None:
    database = connect(url)
    async with database:
        await database.migrate("list", [LIST])
        tasks = [asyncio.create_task(database.transaction(insert(str(n)))) for n in range(100)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)

    with pytest.raises(StoreError, match="is closed"):
        await database.transaction(insert("late"))
    async with connect(url) as again:
        assert len(await items(again)) == 100


async def test_a_full_disk_fails_its_work_by_name_and_passes(sqlite: SqliteDatabase) -> None:
    async def quota(tx: Transaction) -> int:
        row = await tx.fetchrow("pragma page_count")
        assert row
        await tx.fetch(f"pragma max_page_count = {row[0] + 2}")
        return int(row[0])

    await sqlite.transaction(insert("before"))
    pages = await sqlite.transaction(quota)
    with pytest.raises(StoreError, match="disk is full"):
        await sqlite.transaction(insert("x" * 100_000))
    await sqlite.transaction(lambda tx: tx.fetch(f"pragma max_page_count = {pages + 1000}"))
    await sqlite.transaction(insert("after"))

    assert await items(sqlite) == ["before", "after"]


async def test_a_foreign_program_that_keeps_the_lock_makes_it_busy(
    sqlite: SqliteDatabase, path: Path
) -> None:
    await sqlite.transaction(lambda tx: tx.fetch("pragma busy_timeout = 20"))
    foreign = sqlite3.connect(path, isolation_level=None)
    foreign.execute("begin immediate")
    with pytest.raises(StoreBusy, match="locked"):
        await sqlite.transaction(insert("a"))
    foreign.execute("rollback")
    foreign.close()

    await sqlite.transaction(insert("b"))
    assert await items(sqlite) == ["b"]
