"""Runners among runners: how many sagas, whose, and whose next."""

import asyncio

import pytest

from mesh.saga import Context, Saga, SagaError, SagaRunner, Step
from mesh.store import Database, Transaction
from mesh.store.sqlite import SqliteDatabase
from mesh.testing import Clock
from tests.saga.rig import QUICK, Till, running, start, told, until


async def test_more_sagas_than_may_run_at_once_wait_their_turn(
    database: Database, till: Till
) -> None:
    at_once = most = 0

    async def count(context: Context) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1

    saga = Saga("place", Step("a", count), Step("b", count), ended=till.ended)
    async with running(database, saga, limit=5) as runner:
        for n in range(60):
            await start(database, runner, f"o-{n}")
        for n in range(60):
            await until(database, runner, "completed", saga_id=f"o-{n}")
    assert len(set(till.ends)) == 60
    assert most <= 5


async def test_sagas_that_run_together_share_commits(sqlite: SqliteDatabase, till: Till) -> None:
    async with running(sqlite, till.saga(), limit=64) as runner:

        async def all_at_once(tx: Transaction) -> None:
            for n in range(64):
                await runner.start(tx, "place", f"o-{n}", {})

        commits, works = sqlite.commits, sqlite.works
        await sqlite.transaction(all_at_once)
        for n in range(64):
            await until(sqlite, runner, "completed", saga_id=f"o-{n}")
        commits, works = sqlite.commits - commits, sqlite.works - works
    assert works >= 64 * 3
    assert commits <= works / 8


async def test_sagas_at_once_take_an_eighth_of_the_commits(database: Database, till: Till) -> None:
    async with running(database, till.saga(), limit=64) as runner:

        async def commits(name: str, sagas: int, at_once: int) -> float:
            before, left = database.commits, iter(range(sagas))

            async def see_through() -> None:
                for number in left:
                    saga_id = f"{name}-{number}"
                    await start(database, runner, saga_id)
                    await until(database, runner, "completed", saga_id=saga_id)

            await asyncio.gather(*(see_through() for _ in range(at_once)))
            return (database.commits - before) / sagas

        alone = await commits("alone", 8, 1)
        together = await commits("together", 256, 64)
    # One begins it and announces its first call; then one for each of three calls.
    assert 4.0 <= alone <= 4.5
    assert together <= alone / 8


async def test_runners_share_a_database_and_each_saga_is_run_by_one(
    database: Database, till: Till
) -> None:
    async with running(database, till.saga()) as one, running(database, till.saga()) as two:
        for n in range(40):
            await start(database, (one, two)[n % 2], f"o-{n}")
        for n in range(40):
            await until(database, one, "completed", saga_id=f"o-{n}")
    assert sorted(till.asked) == sorted(["reserve", "charge", "confirm"] * 40)
    assert len(set(till.ends)) == 40


async def test_a_leaving_runner_hands_its_sagas_over_at_once(
    database: Database, till: Till
) -> None:
    till.gate("charge")
    async with running(database, till.saga(), grace=0.05) as one:
        await start(database, one)
        await till.entered["charge"].wait()
    found = await database.read(lambda tx: one.find(tx, "o-1"))
    assert found
    assert (found.owner, found.state) == ("", "running")

    till.gates["charge"].set()
    async with asyncio.timeout(1.0), running(database, till.saga()) as two:
        await until(database, two, "completed")
    assert till.asked == ["reserve", "charge", "charge", "confirm"]
    assert len(till.requests["charge"]) == 1


async def test_a_leaving_runner_lets_the_call_end_that_it_is_making(
    database: Database, till: Till
) -> None:
    gate = till.gate("charge")
    runner = SagaRunner(database, [till.saga()], backoff=QUICK, grace=5)
    async with runner:
        await start(database, runner)
        await till.entered["charge"].wait()
        asyncio.get_running_loop().call_later(0.05, gate.set)
    found = await database.read(lambda tx: runner.find(tx, "o-1"))
    assert found
    assert told(found)[-1] == "charge done"
    assert found.owner == ""


async def test_a_runner_that_loses_its_lease_stops_and_writes_nothing(
    database: Database, till: Till
) -> None:
    till.gate("charge")
    async with running(database, till.saga()) as one:
        await start(database, one)
        await till.entered["charge"].wait()
        await database.transaction(
            lambda tx: tx.execute(
                "update saga set owner = 'thief', token = token + 1, free_at = 9e9"
            )
        )
        async with asyncio.timeout(5):
            while one._tending.room < 64:
                await asyncio.sleep(0.02)
        found = await database.read(lambda tx: one.find(tx, "o-1"))
    assert found
    assert told(found)[-1] == "charge started"
    assert found.owner == "thief"


async def test_a_long_call_keeps_its_lease(database: Database, till: Till) -> None:
    gate = till.gate("charge")
    async with running(database, till.saga()) as one, running(database, till.saga()):
        await start(database, one)
        await till.entered["charge"].wait()
        await asyncio.sleep(2.2)
        gate.set()
        await until(database, one, "completed")
    assert till.asked == ["reserve", "charge", "confirm"]


async def test_a_saga_is_run_only_by_who_knows_its_steps(
    database: Database, till: Till, caplog: pytest.LogCaptureFixture
) -> None:
    old = Saga("place", till.step("reserve"), till.step("charge"), version=1)
    changed = Saga("place", till.step("charge"), till.step("reserve"), version=1)
    new = Saga("place", till.step("pack"), version=2)
    till.gate("charge")
    async with running(database, old, grace=0.0) as runner:
        await start(database, runner)
        await till.entered["charge"].wait()
    del till.gates["charge"]

    async with running(database, changed) as runner:
        assert await start(database, runner, "o-2")
        await until(database, runner, "completed", saga_id="o-2")
        with pytest.raises(SagaError, match="doesn't know place:1:"):
            await database.transaction(lambda tx: runner.cancel(tx, "o-1", "BORED"))
    assert f"1 unfinished sagas of {old.definition} are left to others" in caplog.text

    async with running(database, new, old) as runner:
        await start(database, runner, "o-3")
        await until(database, runner, "completed", saga_id="o-1")
        found = await until(database, runner, "completed", saga_id="o-3")
    assert told(found) == ["pack started", "pack done"]


async def test_ended_sagas_are_forgotten_after_their_retention(
    database: Database, till: Till
) -> None:
    clock = Clock(1000.0)
    async with running(database, till.saga(), clock=clock) as runner:
        await start(database, runner)
        await until(database, runner, "completed")
        clock.advance(8 * 24 * 3600.0)
        await start(database, runner, "o-2")
        async with asyncio.timeout(10):
            while await database.read(lambda tx: runner.find(tx, "o-1")):
                await asyncio.sleep(0.02)
        await until(database, runner, "completed", saga_id="o-2")
        lines = await database.read(lambda tx: tx.fetch("select distinct id from saga_journal"))
    assert [row["id"] for row in lines] == ["o-2"]
