"""What turns a saga back, and what makes it wait."""

import asyncio
from typing import Any

import pytest

from mesh.policy.backoff import Backoff
from mesh.saga import TIMED_OUT, Context, Later, Saga, SagaRunner, Step
from mesh.store import Database
from mesh.testing import Clock
from tests.saga.rig import DOWN, Till, running, start, until


@pytest.mark.parametrize(
    ("held", "turned", "asked"),
    [
        ("reserve", True, ["reserve", "undo reserve"]),
        ("charge", True, ["reserve", "charge", "undo charge", "undo reserve"]),
        ("confirm", False, ["reserve", "charge", "confirm"]),
    ],
)
async def test_a_saga_can_be_cancelled_until_its_pivot_is_asked(
    database: Database, till: Till, held: str, turned: bool, asked: list[str]
) -> None:
    gate = till.gate(held)
    async with running(database, till.saga()) as runner:
        await start(database, runner)
        await till.entered[held].wait()
        for _ in range(2):
            cancelled = await database.transaction(lambda tx: runner.cancel(tx, "o-1", "BORED"))
            assert cancelled is turned
        gate.set()
        await until(database, runner, "compensated", "completed")
        again = await database.transaction(lambda tx: runner.cancel(tx, "o-1", "BORED"))
        nobody = await database.transaction(lambda tx: runner.cancel(tx, "nobody", "BORED"))
    assert till.asked == asked
    assert till.ends == [("o-1", *(("compensated", "BORED") if turned else ("completed", "")))]
    assert (again, nobody) == (turned, False)


async def test_cancelling_does_not_wait_for_the_next_try(database: Database, till: Till) -> None:
    till.answers["charge"] = [DOWN] * 100
    saga = till.saga()
    async with SagaRunner(database, [saga], backoff=Backoff(base=3600, cap=3600)) as runner:
        await start(database, runner)
        async with asyncio.timeout(10):
            async for _ in database.changes():
                found = await database.read(lambda tx: runner.find(tx, "o-1"))
                if found and found.attempts:
                    break
        await database.transaction(lambda tx: runner.cancel(tx, "o-1", "BORED"))
        await until(database, runner, "compensated")
    assert till.asked == ["reserve", "charge", "undo charge", "undo reserve"]


async def test_past_its_deadline_a_saga_turns_back_and_undoes_the_unknown(
    database: Database, till: Till
) -> None:
    clock = Clock(1000.0)
    till.answers["charge"] = [DOWN] * 1000
    async with running(database, till.saga(deadline=30.0), clock=clock) as runner:
        await start(database, runner)
        await till.entered.setdefault("charge", asyncio.Event()).wait()
        assert till.ends == []
        clock.advance(31.0)
        await until(database, runner, "compensated")
    assert till.ends == [("o-1", "compensated", TIMED_OUT)]
    assert till.asked[-2:] == ["undo charge", "undo reserve"]


async def test_a_runner_that_was_stopped_for_longer_than_a_lease_goes_on(
    database: Database, till: Till
) -> None:
    """It looks for what is free, finds what it is running itself, and leaves that to itself."""
    clock = Clock(1000.0)
    gate = till.gate("charge")
    async with running(database, till.saga(), clock=clock) as runner:
        await start(database, runner)
        await till.entered["charge"].wait()
        till.entered["charge"].clear()
        clock.advance(5.0)
        await start(database, runner, "o-2")
        await till.entered["charge"].wait()
        gate.set()
        await until(database, runner, "completed")
        await until(database, runner, "completed", saga_id="o-2")
    assert sorted(till.ends) == [("o-1", "completed", ""), ("o-2", "completed", "")]
    assert till.asked.count("charge") == 2


async def test_the_deadline_means_nothing_behind_the_pivot(database: Database, till: Till) -> None:
    clock = Clock(1000.0)
    gate = till.gate("confirm")
    till.answers["confirm"] = [DOWN, DOWN]
    async with running(database, till.saga(deadline=30.0), clock=clock) as runner:
        await start(database, runner)
        await till.entered["confirm"].wait()
        clock.advance(31.0)
        gate.set()
        await till.entered["confirm"].wait()
        async with asyncio.timeout(10):
            while not till.ends:
                clock.advance(1.0)
                await asyncio.sleep(0.01)
    assert till.ends == [("o-1", "completed", "")]


async def test_the_deadline_is_a_durable_timer(database: Database, till: Till) -> None:
    """A saga in a long backoff is turned at its deadline, not at its next try."""
    till.answers["charge"] = [DOWN] * 100
    patient = Backoff(base=3600, cap=3600)
    async with SagaRunner(database, [till.saga(deadline=0.4)], backoff=patient) as runner:
        await start(database, runner)
        await until(database, runner, "compensated")
    assert till.ends == [("o-1", "compensated", TIMED_OUT)]


async def test_a_step_may_wait_for_a_signal(database: Database, till: Till) -> None:
    seen: list[dict[str, Any]] = []
    waiting = asyncio.Event()

    async def approve(context: Context) -> str:
        seen.append(dict(context.signals))
        if "approved" not in context.signals:
            waiting.set()
            raise Later(3600)
        return str(context.signals["approved"])

    saga = Saga("place", till.step("reserve"), Step("approve", approve), till.step("charge"))
    async with running(database, saga) as runner:
        await start(database, runner)
        await waiting.wait()
        assert await database.transaction(
            lambda tx: runner.signal(tx, "o-1", "approved", {"by": "Ann"})
        )
        instance = await until(database, runner, "completed")
        assert not await database.transaction(lambda tx: runner.signal(tx, "o-1", "approved"))
    assert seen == [{}, {"approved": {"by": "Ann"}}]
    assert instance.details("done")["approve"] == "{'by': 'Ann'}"
