"""What becomes of a saga's steps, on a real database."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from mesh.saga import Context, Refused, Saga, SagaError, SagaRunner, Step, journal
from mesh.store import Database, Transaction, migrations
from mesh.store.migrate import COUNTED
from tests.saga.rig import DOWN, QUICK, Till, running, start, told, until


async def test_steps_are_done_in_order(database: Database, till: Till) -> None:
    async with running(database, till.saga()) as runner:
        assert await start(database, runner)
        instance = await until(database, runner, "completed")
    assert till.asked == ["reserve", "charge", "confirm"]
    assert till.ends == [("o-1", "completed", "")]
    assert told(instance) == [
        "reserve started",
        "reserve done",
        "charge started",
        "charge done",
        "confirm started",
        "confirm done",
    ]


async def test_a_refusal_undoes_what_was_done_in_reverse(database: Database, till: Till) -> None:
    till.answers["confirm"] = [Refused("OUT_OF_PAPER")]
    async with running(database, till.saga()) as runner:
        await start(database, runner)
        await until(database, runner, "compensated")
    assert till.asked == ["reserve", "charge", "confirm", "undo charge", "undo reserve"]
    assert till.ends == [("o-1", "compensated", "OUT_OF_PAPER")]


async def test_a_lost_answer_is_asked_for_again_under_the_same_request(
    database: Database, till: Till
) -> None:
    till.answers["charge"] = [DOWN, ValueError("a bug is no answer either"), {"paid": 5}]
    async with running(database, till.saga()) as runner:
        await start(database, runner)
        instance = await until(database, runner, "completed")
    assert till.asked == ["reserve", "charge", "charge", "charge", "confirm"]
    assert {name: len(ids) for name, ids in till.requests.items()} == dict.fromkeys(
        ("reserve", "charge", "confirm"), 1
    )
    assert instance.details("done")["charge"] == {"paid": 5}
    assert instance.attempts == 0


async def test_a_failed_undo_is_asked_again_then_parked_then_replayed(
    database: Database, till: Till
) -> None:
    till.answers = {"charge": [Refused("NO")], "undo reserve": [DOWN, Refused("no way"), DOWN]}
    async with running(database, till.saga(patience=3)) as runner:
        await start(database, runner)
        parked = await until(database, runner, "parked")
        assert parked.cause == "CallFailed: UNAVAILABLE"
        assert [each.id for each in await database.read(runner.listed)] == ["o-1"]
        assert not await database.transaction(lambda tx: runner.replay(tx, "nobody"))

        assert await database.transaction(lambda tx: runner.replay(tx, "o-1"))
        await until(database, runner, "compensated")
        assert not await database.transaction(lambda tx: runner.replay(tx, "o-1"))
    assert till.asked == ["reserve", "charge"] + ["undo reserve"] * 4
    assert len(till.requests["undo reserve"]) == 1


async def test_behind_the_pivot_there_is_no_way_but_on(database: Database, till: Till) -> None:
    till.answers["ship"] = [Refused("never"), DOWN, TimeoutError(), Refused("never ever")]
    saga = Saga(
        "place",
        till.step("charge"),
        till.step("confirm", undo=False, kind="pivot"),
        till.step("ship", undo=False, kind="retriable"),
    )
    async with running(database, saga) as runner:
        await start(database, runner)
        await until(database, runner, "completed")
    assert till.asked == ["charge", "confirm", *["ship"] * 5]


async def test_what_a_step_writes_is_committed_with_the_news_that_it_is_done(
    database: Database, till: Till
) -> None:
    await database.migrate("test", [f"create table seen (place {COUNTED}, what text unique)"])

    async def then(tx: Transaction, context: Context, result: Any) -> None:
        await tx.execute(
            "insert into seen (what) values ($1)", f"{context.data['n']} {result['answer']}"
        )

    async def undone(tx: Transaction, context: Context) -> None:
        await tx.execute(
            "insert into seen (what) values ($1)", f"not {context.results['reserve']['answer']}"
        )

    till.answers["charge"] = [Refused("NO")]
    saga = Saga("place", till.step("reserve", then=then, undone=undone), till.step("charge"))
    async with running(database, saga) as runner:
        await start(database, runner, n=7)
        await until(database, runner, "compensated")
        rows = await database.read(lambda tx: tx.fetch("select what from seen order by place"))
    assert [row["what"] for row in rows] == ["7 reserve", "not reserve"]


async def test_a_hook_that_raises_leaves_nothing_and_is_tried_again(
    database: Database, till: Till
) -> None:
    await database.migrate("test", ["create table seen (what text)"])

    async def then(tx: Transaction, context: Context, result: Any) -> None:
        await tx.execute("insert into seen values ('reserve')")
        if context.attempts < 2:
            raise LookupError(f"{context.attempts} attempts before")

    saga = Saga("place", till.step("reserve", then=then))
    async with running(database, saga) as runner:
        await start(database, runner)
        await until(database, runner, "completed")
        rows = await database.read(lambda tx: tx.fetch("select what from seen"))
    assert len(rows) == 1
    assert till.asked == ["reserve"] * 3
    assert len(till.requests["reserve"]) == 1


async def test_a_saga_that_is_not_committed_never_runs(database: Database, till: Till) -> None:
    async with running(database, till.saga()) as runner:

        async def change_of_mind(tx: Transaction) -> None:
            await runner.start(tx, "place", "o-0", {})
            raise LookupError

        with pytest.raises(LookupError):
            await database.transaction(change_of_mind)
        await start(database, runner)
        await until(database, runner, "completed")
        assert await database.read(lambda tx: runner.find(tx, "o-0")) is None
    assert till.ends == [("o-1", "completed", "")]


async def test_an_id_names_one_saga(database: Database, till: Till) -> None:
    async with running(database, till.saga()) as runner:
        assert await start(database, runner)
        assert not await start(database, runner)
        await until(database, runner, "completed")
        assert not await start(database, runner)
        with pytest.raises(SagaError, match="no saga 'lace' here"):
            await database.transaction(lambda tx: runner.start(tx, "lace", "o-2", {}))
    assert till.asked == ["reserve", "charge", "confirm"]


async def test_a_call_that_hangs_is_given_up_and_asked_again(
    database: Database, till: Till
) -> None:
    calls: list[str] = []

    async def hang_once(context: Context) -> None:
        calls.append(context.request_id)
        if len(calls) == 1:
            await asyncio.Event().wait()

    async with running(database, Saga("place", Step("a", hang_once, timeout=0.05))) as runner:
        await start(database, runner)
        await until(database, runner, "completed")
    assert len(calls) == 2
    assert len(set(calls)) == 1


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Saga("", Step("a", Till().call("a"))), "needs a name"),
        (lambda: Saga("x"), "at least one step"),
        (lambda: Saga("x", Step("a", Till().call("a")), deadline=0), "deadline: 0 must be over"),
        (lambda: Saga("x", Step("a", Till().call("a")), patience=0), "patience: 0 must be"),
    ],
)
def test_a_definition_that_makes_no_sense_is_refused(make: Callable[[], Saga], why: str) -> None:
    with pytest.raises(SagaError, match=why):
        make()


async def test_a_step_that_asks_nobody_is_done_with_the_news_of_the_one_before(
    database: Database, till: Till
) -> None:
    seen: list[tuple[str, object]] = []

    async def then(tx: Transaction, context: Context, result: Any) -> None:
        seen.append((context.step, result))

    pivot = Step("confirm", then=then, kind="pivot")
    saga = Saga("place", till.step("reserve"), pivot, ended=till.ended)
    async with running(database, saga) as runner:
        await start(database, runner)
        ended = await until(database, runner, "completed")

    assert told(ended) == ["reserve started", "reserve done", "confirm started", "confirm done"]
    assert len({line.at for line in ended.lines[1:]}) == 1
    assert (till.asked, seen) == (["reserve"], [("confirm", None)])
    assert till.ends == [("o-1", "completed", "")]


async def test_a_journal_from_when_the_step_had_a_call_goes_on(
    database: Database, till: Till
) -> None:
    saga = Saga("place", till.step("reserve"), Step("confirm", kind="pivot"))
    runner = SagaRunner(database, [saga], backoff=QUICK)
    await database.migrate(journal.COMPONENT, migrations("mesh.saga"))
    await start(database, runner)

    async def write(tx: Transaction) -> None:
        for step, what in (("reserve", "started"), ("reserve", "done"), ("confirm", "started")):
            instance = await runner.find(tx, "o-1")
            assert instance
            journal.write(tx, instance, step, what, None, 0.0)

    await database.transaction(write)
    async with runner:
        ended = await until(database, runner, "completed")

    assert told(ended)[-2:] == ["confirm started", "confirm done"]
    assert till.asked == []
