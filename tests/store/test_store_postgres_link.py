"""Exchanges with PostgreSQL: what is posted, what fails with what, what is prepared."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from mesh.store import (
    Database,
    StatementFailed,
    Transaction,
    Violation,
)
from tests.store.conftest import LIST, insert, items
from tests.store.postgresql import running

psycopg = pytest.importorskip("psycopg")

from mesh.store.postgres import PostgresDatabase  # noqa: E402
from mesh.store.postgres.address import Address  # noqa: E402
from mesh.store.postgres.link import Link  # noqa: E402
from mesh.store.postgres.work import Ask  # noqa: E402


@pytest.fixture
def url() -> str:
    return running().new_database()


@pytest.fixture
async def database(url: str) -> AsyncIterator[PostgresDatabase]:
    async with PostgresDatabase(url, readers=2) as database:
        await database.migrate("list", [LIST])
        yield database


@pytest.fixture
async def link(url: str) -> AsyncIterator[Link]:
    link = Link(Address(url))
    await link.open()
    yield link
    await link.close()


async def test_what_is_posted_goes_out_in_one_exchange_with_what_follows(link: Link) -> None:
    link.post(Ask("begin"))
    link.post(Ask("create table t (n bigint)"))
    for number in range(200):
        link.post(Ask("insert into t values ($1)", (number,)))
    answer = await link.answer(Ask("select count(*) as n, sum(n) as total from t"))

    assert [tuple(row) for row in answer.rows] == [(200, sum(range(200)))]
    assert (link.exchanges, link.answered, link.wrote) == (1, 203, True)


async def test_after_a_statement_that_fails_its_exchange_does_nothing(link: Link) -> None:
    await link.say("create table t (n bigint unique)")
    for number in (1, 2, 1, 3):
        link.post(Ask("insert into t values ($1)", (number,)))
    with pytest.raises(Violation, match=r"t_n_key.*\(1\)"):
        await link.say("select 1")
    await link.reset()
    # An exchange outside of BEGIN and COMMIT is a transaction by itself.
    assert not (await link.answer(Ask("select * from t"))).rows


async def test_prepared_statements_are_bounded(link: Link) -> None:
    for number in range(1200):
        await link.open()
        await link.answer(Ask(f"select {number}"))
    kept = await link.answer(Ask("select count(*) from pg_prepared_statements"))
    assert kept.rows[0][0] <= 514


async def test_a_statement_outlives_the_schema_that_it_was_prepared_for(
    database: Database, url: str
) -> None:
    async def everything(tx: Transaction) -> list[list[str]]:
        return [list(row.keys()) for row in await tx.fetch("select * from list")]

    await database.transaction(insert("a"))
    for do in (database.read, database.transaction):
        assert await do(everything) == [["place", "item"]]
    running().sql(url.rpartition("/")[2], "alter table list add column more text")
    for do in (database.read, database.transaction):
        assert await do(everything) == [["place", "item", "more"]]


async def test_a_read_that_fails_fails_alone(database: Database) -> None:
    async def slow(tx: Transaction) -> None:
        await tx.fetch("select pg_sleep(0.05)")

    await database.transaction(insert("a"))
    reads = [items(database) for _ in range(20)]
    wrong = [database.read(lambda tx: tx.fetch("select nonsense")) for _ in range(5)]
    outcomes = await asyncio.gather(
        *(database.read(slow) for _ in range(4)),
        *reads[:10],
        *wrong,
        *reads[10:],
        return_exceptions=True,
    )
    kinds = [type(outcome) for outcome in outcomes[4:]]
    assert kinds == [list] * 10 + [StatementFailed] * 5 + [list] * 10
