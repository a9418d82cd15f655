"""The runner on a real database: what users see of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mesh.errors import CallFailed, Code
from mesh.policy.backoff import Backoff
from mesh.saga import (
    TIMED_OUT,
    Context,
    Instance,
    Later,
    Refused,
    Saga,
    SagaError,
    SagaRunner,
    Step,
)
from mesh.store import Database, Transaction
from mesh.store.sqlite import SqliteDatabase
from mesh.testing import Clock

QUICK = Backoff(base=0.001, cap=0.01)
DOWN = CallFailed(Code.UNAVAILABLE)


class Till:
    """Steps that write down what they were asked, and answer what they are told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.requests: dict[str, set[str]] = {}
        self.answers: dict[str, list[object]] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.entered: dict[str, asyncio.Event] = {}
        self.ends: list[tuple[str, str, str]] = []

    def step(self, name: str, *, undo: bool = True, **rest: Any) -> Step:
        undoing = self.call(f"undo {name}") if undo else None
        return Step(name, self.call(name), undoing, **rest)

    def call(self, name: str) -> Callable[[Context], Awaitable[Any]]:
        async def function(context: Context) -> object:
            self.asked.append(name)
            self.requests.setdefault(name, set()).add(context.request_id)
            self.entered.setdefault(name, asyncio.Event()).set()
            if gate := self.gates.get(name):
                await gate.wait()
            script = self.answers.get(name, [])
            answer = script.pop(0) if script else {"answer": name}
            if isinstance(answer, Exception):
                raise answer
            return answer

        return function

    def gate(self, name: str) -> asyncio.Event:
        self.entered[name] = asyncio.Event()
        return self.gates.setdefault(name, asyncio.Event())

    async def ended(self, tx: Transaction, context: Context, outcome: str, reason: str) -> None:
        self.ends.append((context.id, outcome, reason))

    def saga(self, **rest: Any) -> Saga:
        steps = (
            self.step("reserve"),
            self.step("charge"),
            self.step("confirm", undo=False, kind="pivot"),
        )
        return Saga("place", *steps, ended=self.ended, **rest)


@pytest.fixture
def till() -> Till:
    return Till()


@asynccontextmanager
async def running(database: Database, *sagas: Saga, **rest: Any) -> AsyncIterator[SagaRunner]:
    async with SagaRunner(database, sagas, backoff=QUICK, **rest) as runner:
        yield runner


async def start(database: Database, runner: SagaRunner, saga_id: str = "o-1", **data: Any) -> bool:
    return await database.transaction(lambda tx: runner.start(tx, "place", saga_id, data))


async def until(
    database: Database, runner: SagaRunner, *states: str, saga_id: str = "o-1"
) -> Instance:
    """The saga once it is in one of these states."""
    async with asyncio.timeout(20):
        async for _ in database.changes():
            found = await database.read(lambda tx: runner.find(tx, saga_id))
            if found and found.state in states:
                return found
    raise AssertionError("the database was closed")


def told(instance: Instance) -> list[str]:
    return [f"{entry.step} {entry.what}".strip() for entry in instance.entries]


async def test_steps_are_done_in_order(database: SqliteDatabase, till: Till) -> None:
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


async def test_a_refusal_undoes_what_was_done_in_reverse(
    database: SqliteDatabase, till: Till
) -> None:
    till.answers["confirm"] = [Refused("OUT_OF_PAPER")]
    async with running(database, till.saga()) as runner:
        await start(database, runner)
        await until(database, runner, "compensated")
    assert till.asked == ["reserve", "charge", "confirm", "undo charge", "undo reserve"]
    assert till.ends == [("o-1", "compensated", "OUT_OF_PAPER")]


async def test_a_lost_answer_is_asked_for_again_under_the_same_request(
    database: SqliteDatabase, till: Till
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
    database: SqliteDatabase, till: Till
) -> None:
    till.answers = {"charge": [Refused("NO")], "undo reserve": [DOWN, Refused("no way"), DOWN]}
    async with running(database, till.saga(patience=3)) as runner:
        await start(database, runner)
        parked = await until(database, runner, "parked")
        assert parked.cause == "CallFailed: UNAVAILABLE"
        assert [each.id for each in await database.read(runner.parked)] == ["o-1"]
        assert not await database.transaction(lambda tx: runner.replay(tx, "nobody"))

        assert await database.transaction(lambda tx: runner.replay(tx, "o-1"))
        await until(database, runner, "compensated")
        assert not await database.transaction(lambda tx: runner.replay(tx, "o-1"))
    assert till.asked == ["reserve", "charge"] + ["undo reserve"] * 4
    assert len(till.requests["undo reserve"]) == 1


async def test_behind_the_pivot_there_is_no_way_but_on(
    database: SqliteDatabase, till: Till
) -> None:
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
    database: SqliteDatabase, till: Till
) -> None:
    await database.migrate("test", ["create table seen (what text primary key)"])

    async def then(tx: Transaction, context: Context, result: Any) -> None:
        await tx.execute("insert into seen values ($1)", f"{context.data['n']} {result['answer']}")

    async def undone(tx: Transaction, context: Context) -> None:
        await tx.execute(
            "insert into seen values ($1)", f"not {context.results['reserve']['answer']}"
        )

    till.answers["charge"] = [Refused("NO")]
    saga = Saga("place", till.step("reserve", then=then, undone=undone), till.step("charge"))
    async with running(database, saga) as runner:
        await start(database, runner, n=7)
        await until(database, runner, "compensated")
        rows = await database.read(lambda tx: tx.fetch("select what from seen order by rowid"))
    assert [row["what"] for row in rows] == ["7 reserve", "not reserve"]


async def test_a_hook_that_raises_leaves_nothing_and_is_tried_again(
    database: SqliteDatabase, till: Till
) -> None:
    await database.migrate("test", ["create table seen (what text)"])
    failures = [LookupError("once"), LookupError("twice")]

    async def then(tx: Transaction, context: Context, result: Any) -> None:
        await tx.execute("insert into seen values ('reserve')")
        if failures:
            raise failures.pop()

    saga = Saga("place", till.step("reserve", then=then))
    async with running(database, saga) as runner:
        await start(database, runner)
        await until(database, runner, "completed")
        rows = await database.read(lambda tx: tx.fetch("select what from seen"))
    assert len(rows) == 1
    assert till.asked == ["reserve"] * 3
    assert len(till.requests["reserve"]) == 1


async def test_a_saga_that_is_not_committed_never_runs(
    database: SqliteDatabase, till: Till
) -> None:
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


async def test_an_id_names_one_saga(database: SqliteDatabase, till: Till) -> None:
    async with running(database, till.saga()) as runner:
        assert await start(database, runner)
        assert not await start(database, runner)
        await until(database, runner, "completed")
        assert not await start(database, runner)
        with pytest.raises(SagaError, match="no saga 'lace' here"):
            await database.transaction(lambda tx: runner.start(tx, "lace", "o-2", {}))
    assert till.asked == ["reserve", "charge", "confirm"]


@pytest.mark.parametrize(
    ("held", "turned", "asked"),
    [
        ("reserve", True, ["reserve", "undo reserve"]),
        ("charge", True, ["reserve", "charge", "undo charge", "undo reserve"]),
        ("confirm", False, ["reserve", "charge", "confirm"]),
    ],
)
async def test_a_saga_can_be_cancelled_until_its_pivot_is_asked(
    database: SqliteDatabase, till: Till, held: str, turned: bool, asked: list[str]
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


async def test_cancelling_does_not_wait_for_the_next_try(
    database: SqliteDatabase, till: Till
) -> None:
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
    database: SqliteDatabase, till: Till
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


async def test_the_deadline_means_nothing_behind_the_pivot(
    database: SqliteDatabase, till: Till
) -> None:
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


async def test_the_deadline_is_a_durable_timer(database: SqliteDatabase, till: Till) -> None:
    """A saga in a long backoff is turned at its deadline, not at its next try."""
    till.answers["charge"] = [DOWN] * 100
    patient = Backoff(base=3600, cap=3600)
    async with SagaRunner(database, [till.saga(deadline=0.4)], backoff=patient) as runner:
        await start(database, runner)
        await until(database, runner, "compensated")
    assert till.ends == [("o-1", "compensated", TIMED_OUT)]


async def test_a_step_may_wait_for_a_signal(database: SqliteDatabase, till: Till) -> None:
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


async def test_a_call_that_hangs_is_given_up_and_asked_again(
    database: SqliteDatabase, till: Till
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


async def test_more_sagas_than_may_run_at_once_wait_their_turn(
    database: SqliteDatabase, till: Till
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
    assert len(till.ends) == 60
    assert most <= 5


async def test_sagas_that_run_together_share_commits(database: SqliteDatabase, till: Till) -> None:
    async with running(database, till.saga(), limit=64) as runner:

        async def all_at_once(tx: Transaction) -> None:
            for n in range(64):
                await runner.start(tx, "place", f"o-{n}", {})

        commits, works = database.commits, database.works
        await database.transaction(all_at_once)
        for n in range(64):
            await until(database, runner, "completed", saga_id=f"o-{n}")
        commits, works = database.commits - commits, database.works - works
    assert works >= 64 * 4
    assert commits <= works / 4


async def test_runners_share_a_database_and_each_saga_is_run_by_one(
    database: SqliteDatabase, till: Till
) -> None:
    async with running(database, till.saga()) as one, running(database, till.saga()) as two:
        for n in range(40):
            await start(database, (one, two)[n % 2], f"o-{n}")
        for n in range(40):
            await until(database, one, "completed", saga_id=f"o-{n}")
    assert sorted(till.asked) == sorted(["reserve", "charge", "confirm"] * 40)
    assert len(till.ends) == 40


async def test_a_leaving_runner_hands_its_sagas_over_at_once(
    database: SqliteDatabase, till: Till
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
    database: SqliteDatabase, till: Till
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
    database: SqliteDatabase, till: Till
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


async def test_a_long_call_keeps_its_lease(database: SqliteDatabase, till: Till) -> None:
    gate = till.gate("charge")
    async with running(database, till.saga()) as one, running(database, till.saga()):
        await start(database, one)
        await till.entered["charge"].wait()
        await asyncio.sleep(2.2)
        gate.set()
        await until(database, one, "completed")
    assert till.asked == ["reserve", "charge", "confirm"]


async def test_a_saga_is_run_only_by_who_knows_its_steps(
    database: SqliteDatabase, till: Till, caplog: pytest.LogCaptureFixture
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
    database: SqliteDatabase, till: Till
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
