"""On PostgreSQL works that write run in turn, again when need be, and what was told is kept."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from mesh.store import (
    Database,
    StatementFailed,
    StoreBusy,
    StoreError,
    Transaction,
    Violation,
    connect,
)
from scripts.stage.preflight import free_port
from tests.store.conftest import LIST, insert, items
from tests.store.postgresql import running

psycopg = pytest.importorskip("psycopg")

from mesh.store.postgres import PostgresDatabase  # noqa: E402


@pytest.fixture
def url() -> str:
    return running().new_database()


@pytest.fixture
async def database(url: str) -> AsyncIterator[PostgresDatabase]:
    async with PostgresDatabase(url, readers=2) as database:
        await database.migrate("list", [LIST])
        yield database


async def test_of_works_that_each_look_before_they_write_one_stands(database: Database) -> None:
    async def be_the_first(tx: Transaction, name: str) -> bool:
        if await tx.fetchrow("select 1 from list where item like 'first %'"):
            return False
        await tx.execute("insert into list (item) values ($1)", f"first {name}")
        return True

    works = [lambda tx, n=n: be_the_first(tx, str(n)) for n in range(24)]
    outcomes = await asyncio.gather(*(database.transaction(work) for work in works))
    assert outcomes.count(True) == 1
    assert len(await items(database)) == 1


async def test_no_addition_is_lost_between_processes(database: Database, url: str) -> None:
    async def add_one(tx: Transaction) -> None:
        row = await tx.fetchrow("select item from list")
        assert row
        await tx.execute("update list set item = $1", str(int(row["item"]) + 1))

    await database.transaction(insert("0"))
    async with connect(url) as other:
        both = (database, other)
        await asyncio.gather(*(both[n % 2].transaction(add_one) for n in range(60)))
    assert await items(database) == ["60"]


async def test_many_works_share_few_commits(database: PostgresDatabase) -> None:
    before = database.commits
    await asyncio.gather(*(database.transaction(insert(str(n))) for n in range(300)))
    assert database.commits - before <= 100
    assert await items(database) == [str(n) for n in range(300)]


async def test_two_saturated_processes_take_turns(database: PostgresDatabase, url: str) -> None:
    """Nobody waits for long, and neither is starved."""
    longest, done = [0.0, 0.0], [0, 0]
    clock = asyncio.get_running_loop().time

    async def saturate(which: int, writer: Database) -> None:
        while clock() < ends:
            begun = clock()
            await writer.transaction(
                insert(f"{which} {done[which]} {begun} {id(asyncio.current_task())}")
            )
            longest[which], done[which] = max(longest[which], clock() - begun), done[which] + 1

    async with connect(url) as other:
        ends = clock() + 2.0
        both = ((0, database), (1, other))
        await asyncio.gather(*(saturate(*each) for each in both for _ in range(16)))
    assert max(longest) < 2.0
    assert min(done) > max(done) / 4


async def test_a_deferred_constraint_refuses_its_own_work_only(database: Database) -> None:
    await database.migrate(
        "child",
        ["create table child (item text references list (item) deferrable initially deferred)"],
    )
    outcomes = await asyncio.gather(
        database.transaction(insert("a")),
        database.transaction(lambda tx: tx.execute("insert into child values ($1)", "nobody")),
        database.transaction(lambda tx: tx.execute("insert into child values ($1)", "a")),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [str, Violation, int]


async def test_a_failed_statement_outside_a_savepoint_takes_the_work_with_it(
    database: Database,
) -> None:
    async def swallow(tx: Transaction) -> None:
        await tx.execute("insert into list (item) values ('before')")
        with pytest.raises(StatementFailed, match="nowhere"):
            await tx.execute("insert into nowhere values ($1)", 1)

    async def contain(tx: Transaction) -> None:
        await tx.execute("insert into list (item) values ('before')")
        with pytest.raises(StatementFailed, match="nowhere"):
            async with tx.savepoint():
                await tx.execute("insert into nowhere values ($1)", 1)

    with pytest.raises(StatementFailed, match=r"nothing stands after: .*nowhere"):
        await database.transaction(swallow)
    assert await items(database) == []
    await database.transaction(contain)
    assert await items(database) == ["before"]


async def test_a_read_is_one_snapshot(database: Database, url: str) -> None:
    name = url.rpartition("/")[2]

    async def twice(tx: Transaction) -> tuple[int, int]:
        first = len(await tx.fetch("select * from list"))
        running().sql(name, "insert into list (item) values ('meanwhile') on conflict do nothing")
        return first, len(await tx.fetch("select * from list"))

    first, second = await database.read(twice)
    assert first == second
    assert await items(database) == ["meanwhile"]


async def test_a_foreign_program_that_keeps_a_row_makes_it_busy(
    database: Database, url: str
) -> None:
    async def want(tx: Transaction) -> None:
        await tx.execute("set local lock_timeout = '20ms'")
        await tx.execute("update list set item = 'wanted'")

    await database.transaction(insert("a"))
    foreign = await psycopg.AsyncConnection.connect(url, autocommit=True)
    await foreign.execute("begin; update list set item = 'kept'")
    with pytest.raises(StoreBusy, match="lock timeout"):
        await database.transaction(want)
    await foreign.execute("commit")
    await foreign.close()
    assert await items(database) == ["kept"]


async def test_works_that_wait_for_a_foreign_program_and_it_for_them_both_end(
    database: Database, url: str
) -> None:
    async def touch(tx: Transaction) -> None:
        await tx.execute("update list set item = 'a1' where item = $1", "a")
        await tx.fetch("select pg_sleep(0.2)")
        await tx.execute("update list set item = 'b1' where item = $1", "b")

    await database.transaction(insert("a"))
    await database.transaction(insert("b"))
    foreign = await psycopg.AsyncConnection.connect(url, autocommit=True)
    await foreign.execute("begin; select * from list where item = 'b' for update")
    touching = asyncio.create_task(database.transaction(touch))
    await asyncio.sleep(0.1)
    with contextlib.suppress(psycopg.errors.DeadlockDetected):
        await foreign.execute("select * from list where item = 'a' for update")
    await foreign.execute("rollback")
    await foreign.close()
    await asyncio.wait_for(touching, 10)
    assert sorted(await items(database)) == ["a1", "b1"]


async def test_a_writer_that_keeps_the_lock_makes_the_others_busy(url: str) -> None:
    async def only_post(tx: Transaction) -> None:
        tx.post("insert into list (item) values ('posted')")

    async def swallow(tx: Transaction) -> None:
        with contextlib.suppress(StoreError):
            await tx.execute("insert into list (item) values ('swallowed')")

    async with PostgresDatabase(url, patience=0.2) as database:
        await database.migrate("list", [LIST])
        async with await psycopg.AsyncConnection.connect(url) as foreign:
            await foreign.execute(f"select pg_advisory_xact_lock({0x6D657368})")
            works = (only_post, insert("a"), only_post, swallow)
            outcomes = await asyncio.gather(
                *(database.transaction(work) for work in works), return_exceptions=True
            )
        assert {type(outcome) for outcome in outcomes} == {StoreBusy}
        await database.transaction(only_post)
        assert await items(database) == ["posted"]


async def test_connections_are_bounded_however_many_works_there_are(
    database: Database, url: str
) -> None:
    name = url.rpartition("/")[2]
    works = asyncio.gather(*(database.transaction(insert(str(n))) for n in range(300)))
    reads = asyncio.gather(*(items(database) for _ in range(50)))
    await asyncio.sleep(0.05)
    count = running().sql(
        "postgres",
        f"select count(*) from pg_stat_activity where datname = '{name}'"
        " and backend_type = 'client backend'",
    )
    await asyncio.gather(works, reads)
    assert int(count) <= 1 + 2 + 1
    assert len(await items(database)) == 300


async def test_a_caller_cancelled_before_its_work_begins_never_runs_it(url: str) -> None:
    entered = asyncio.Event()

    async def hold(tx: Transaction) -> None:
        entered.set()
        await tx.fetch("select pg_sleep(0.1)")
        await tx.execute("insert into list (item) values ('held')")

    async with PostgresDatabase(url) as database:
        await database.migrate("list", [LIST])
        holding = asyncio.create_task(database.transaction(hold))
        await entered.wait()
        waiting = asyncio.create_task(database.transaction(insert("cancelled")))
        await asyncio.sleep(0)
        waiting.cancel()
        holding.cancel()
        await asyncio.wait([waiting, holding])
        await database.transaction(insert("behind"))
        assert await items(database) == ["held", "behind"], "what had begun was seen through"


async def test_a_work_whose_connection_is_lost_is_run_again(database: Database, url: str) -> None:
    name, runs = url.rpartition("/")[2], 0

    async def work(tx: Transaction) -> None:
        nonlocal runs
        runs += 1
        await tx.execute("insert into list (item) values ('once')")
        if runs == 1:
            running().sql(
                "postgres",
                "select pg_terminate_backend(pid) from pg_stat_activity"
                f" where datname = '{name}' and state = 'idle in transaction'",
            )
        await tx.execute("insert into list (item) values ('twice')")

    await database.transaction(work)
    assert await items(database) == ["once", "twice"]
    assert runs == 2


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda url: url.replace("/mesh_", "/nothing_"), "does not exist"),
        (
            lambda url: f"postgresql://mesh:secret@127.0.0.1:{free_port()}/test",
            "Connection refused",
        ),
        (lambda url: url.replace("mesh:", "nobody:"), "does not exist"),
        (lambda url: "postgresql://mesh:secret@127.0.0.1:many/test", "many"),
    ],
)
async def test_what_is_wrong_with_the_address_is_said_without_the_password(
    url: str, change: object, cause: str
) -> None:
    with pytest.raises(StoreError, match=cause) as refused:
        async with connect(change(url)):  # type: ignore[operator]
            pass
    assert str(refused.value).startswith("postgresql://127.0.0.1:")
    assert "secret" not in str(refused.value)


async def test_a_password_that_cannot_be_read_is_not_quoted(url: str) -> None:
    with pytest.raises(StoreError, match="percent-encoded") as refused:
        async with connect(url.replace("secret", "hid%zzden")):
            pass
    assert "hid" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_without_psycopg_it_is_said_which_extra_is_missing() -> None:
    script = (
        "import sys\n"
        "sys.modules['psycopg'] = None\n"
        "from mesh.store import StoreError, connect\n"
        "try: connect('postgresql://me:secret@host/shop')\n"
        "except StoreError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "proxyless[postgres]" in done.stdout
    assert "secret" not in done.stdout
