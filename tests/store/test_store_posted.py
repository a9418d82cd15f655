"""A posted statement is a statement like any other; only what came of it is told later."""

import asyncio

import pytest

from mesh.store import Database, StatementFailed, StoreError, Transaction, Violation
from tests.store.conftest import insert, items

ADD = "insert into list (item) values ($1)"


async def test_what_is_posted_is_seen_by_the_next_statement_and_committed(
    database: Database,
) -> None:
    async def work(tx: Transaction) -> list[str]:
        tx.post(ADD, "a")
        tx.post("update list set item = $2 where item = $1", "a", "b")
        seen = [row["item"] for row in await tx.fetch("select item from list")]
        tx.post(ADD, "c")
        return seen

    assert await database.transaction(work) == ["b"]
    assert await items(database) == ["b", "c"]


async def test_a_work_that_only_posts_is_durable_when_it_is_answered(database: Database) -> None:
    async def work(tx: Transaction, item: str) -> str:
        tx.post(ADD, item)
        return item

    works = (lambda tx, n=n: work(tx, str(n)) for n in range(100))
    told = await asyncio.gather(*(database.transaction(each) for each in works))
    assert await items(database) == told


async def test_a_posted_statement_that_fails_takes_its_own_work_with_it(
    database: Database,
) -> None:
    async def twice(tx: Transaction) -> None:
        tx.post(ADD, "before")
        tx.post(ADD, "before")

    async def then_more(tx: Transaction) -> None:
        tx.post(ADD, "early")
        tx.post(ADD, "early")
        await tx.fetch("select * from list")

    outcomes = await asyncio.gather(
        *(database.transaction(work) for work in (insert("a"), twice, insert("b"), then_more)),
        *(database.transaction(insert(item)) for item in "cd"),
        return_exceptions=True,
    )

    assert [type(outcome) for outcome in outcomes] == [str, Violation, str, Violation, str, str]
    assert sorted(await items(database)) == ["a", "b", "c", "d"]


async def test_what_was_posted_before_a_work_raised_is_not_run(database: Database) -> None:
    async def work(tx: Transaction) -> None:
        tx.post(ADD, "never")
        raise LookupError("changed my mind")

    outcomes = await asyncio.gather(
        *(database.transaction(each) for each in (insert("a"), work, insert("b"))),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [str, LookupError, str]
    assert await items(database) == ["a", "b"]


@pytest.mark.parametrize("behind", [False, True])
async def test_a_savepoint_holds_what_was_posted_in_it(database: Database, behind: bool) -> None:
    async def part(tx: Transaction) -> None:
        async with tx.savepoint():
            tx.post(ADD, "inside")
            tx.post(ADD, "before")
            if behind:
                await tx.fetch("select * from list")

    async def undone(tx: Transaction) -> None:
        async with tx.savepoint():
            tx.post(ADD, "undone")
            raise LookupError

    async def work(tx: Transaction) -> None:
        tx.post(ADD, "before")
        with pytest.raises(Violation):
            await part(tx)
        async with tx.savepoint():
            tx.post(ADD, "after")
        with pytest.raises(LookupError):
            await undone(tx)

    await database.transaction(work)
    assert await items(database) == ["before", "after"]


async def test_a_read_may_not_post_what_writes(database: Database) -> None:
    async def work(tx: Transaction) -> None:
        tx.post(ADD, "a")

    async def work_then_more(tx: Transaction) -> None:
        await tx.fetch("select * from list")
        tx.post(ADD, "a")

    for each in (work, work_then_more):
        with pytest.raises(StoreError, match=r"read-?only"):
            await database.read(each)
    assert await items(database) == []


@pytest.mark.parametrize("argument", [object(), "a\0b"])
async def test_what_no_column_can_hold_is_named(database: Database, argument: object) -> None:
    if isinstance(argument, str) and "sqlite" in type(database).__module__:
        pytest.skip("SQLite keeps a NUL")
    with pytest.raises(StatementFailed, match=r"\$1 |parameter"):
        await database.transaction(lambda tx: tx.execute(ADD, argument))


async def test_values_come_back_as_they_went(database: Database) -> None:
    columns = "n bigint, x double precision, t text, b bytea"
    await database.migrate("value", [f"create table value ({columns})"])
    kept = [
        (2**63 - 1, 0.1, "Zürich \\x00 'quoted'", b"\x00\xff\\"),
        (-(2**63), -1e300, "", b""),
        (None, None, None, None),
        (0, 1792030405.123456, "$1", bytes(range(256)) * 40),
    ]

    async def write(tx: Transaction) -> None:
        for row in kept:
            tx.post("insert into value values ($1, $2, $3, $4)", *row)

    await database.transaction(write)
    found = await database.read(lambda tx: tx.fetch("select n, x, t, b from value"))
    assert [(row["n"], row["x"], row["t"], row["b"]) for row in found] == kept
