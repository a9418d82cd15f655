"""A handler whose effect is one transaction takes its key with it: one commit, and still once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from mesh.errors import Code, StatusError
from mesh.server.idempotency import in_one_transaction, keep
from mesh.server.turns import NotYet, Turns
from mesh.store import Database, connect
from tests.server.commands import (
    EFFECT,
    IN_PROGRESS,
    REUSED,
    Commands,
    Kept,
    KeptAtOnce,
    answer,
    effects,
    key,
    serving,
)
from tests.server.echo import Text


class OnlyOne(Commands):
    """Its effect can be had once: who comes too late is refused, whatever its key."""

    @in_one_transaction
    async def Say(self, request: Any, context: Any) -> Any:
        self.runs += 1
        reply = Text(text=request.text, number=self.runs)

        async def work(tx: Any) -> None:
            if await tx.fetch("select 1 from effect"):
                raise StatusError(
                    Code.FAILED_PRECONDITION, "sold", reason="OUT_OF_STOCK", domain="test"
                )
            await tx.execute("insert into effect (text) values ($1)", request.text)
            await keep(tx, reply)

        self.begun.set()
        await self.release.wait()
        await self.database.transaction(work)
        return reply


class Forgetful(Commands):
    """Keeps no answer, though it says that it does."""

    @in_one_transaction
    async def Say(self, request: Any, context: Any) -> Any:
        return await super().Say(request, context)


@asynccontextmanager
async def two(url: str, sort: type[Commands]):
    """Two instances on one database, and a stub of each."""
    async with AsyncExitStack() as stack:
        instances, stubs = [], []
        for _ in range(2):
            database = await stack.enter_async_context(connect(url))
            await database.migrate("effects", [EFFECT])
            instances.append(sort(database))
            stubs.append(await stack.enter_async_context(serving(instances[-1], wait=30.0)))
        yield instances, stubs


def say(stub: Any, text: str = "a", name: str = "k") -> Any:
    return answer(stub.Say(Text(text=text), metadata=key(name)))


@pytest.mark.parametrize(("sort", "commits"), [(Kept, 2), (KeptAtOnce, 1)])
async def test_nothing_is_written_before_the_effect(database: Any, sort: Any, commits: int) -> None:
    async with serving(sort(database)) as echo:
        assert await say(echo, name="first") == ("a 1", False)
        before = database.commits
        assert await say(echo) == ("a 2", False)
        after = database.commits
        assert await say(echo) == ("a 2", True)

    assert after - before == commits
    assert database.commits == after


async def test_the_key_of_another_request_is_refused(database: Database) -> None:
    async with serving(KeptAtOnce(database)) as echo:
        await say(echo, "a")

        assert await say(echo, "b") == (REUSED, False)
    assert await effects(database) == ["a"]


async def test_a_duplicate_in_the_same_process_waits_its_turn(database: Database) -> None:
    commands = OnlyOne(database)
    commands.release.clear()
    async with serving(commands, wait=0.3) as echo:
        first = asyncio.ensure_future(say(echo))
        await asyncio.wait_for(commands.begun.wait(), 5)
        assert await say(echo) == (IN_PROGRESS, False)
        second = asyncio.ensure_future(say(echo))
        await asyncio.sleep(0)
        commands.release.set()

        assert await first == ("a 1", False)
        assert await second == ("a 1", True)
    assert commands.runs == 1


async def test_of_two_instances_the_one_that_commits_first_is_answered_by_both(url: str) -> None:
    """The other's refusal came of that very commit: it is not the answer."""
    async with two(url, OnlyOne) as (instances, stubs):
        for instance in instances:
            instance.release.clear()
        calls = [asyncio.ensure_future(say(stub)) for stub in stubs]
        for instance in instances:
            await asyncio.wait_for(instance.begun.wait(), 5)
        instances[0].release.set()
        first = await calls[0]
        instances[1].release.set()

        assert (first, await calls[1]) == (("a 1", False), ("a 1", True))
        assert await say(stubs[1], name="other") == ("OUT_OF_STOCK", False)
        assert await effects(instances[0].database) == ["a"]


async def test_instances_that_race_have_one_effect_for_a_key(url: str) -> None:
    async with two(url, KeptAtOnce) as (instances, stubs):
        said = await asyncio.gather(
            *(say(stubs[n % 2], name=f"k-{n // 10}") for n in range(50)),
        )
        assert await effects(instances[0].database) == ["a"] * 5
    assert [replayed for _, replayed in said].count(False) == 5
    for first in range(0, 50, 10):
        assert len({text for text, _ in said[first : first + 10]}) == 1


async def test_an_answer_that_was_not_kept_is_stored_all_the_same(database: Database) -> None:
    async with serving(Forgetful(database)) as echo:
        assert await say(echo) == ("a 1", False)
        assert await say(echo) == ("a 1", True)
    assert await effects(database) == ["a"]


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.INTERNAL, Code.FAILED_PRECONDITION])
async def test_only_a_refusal_that_stays_true_is_stored(database: Database, code: Code) -> None:
    commands = Forgetful(database)
    commands.error = StatusError(code, "no", reason="NO", domain="test")
    async with serving(commands) as echo:
        assert await say(echo) == ("NO", False)
        commands.error = None
        again = await say(echo)

    assert again == (("NO", True) if code is Code.FAILED_PRECONDITION else ("a 2", False))


async def test_turns_are_taken_one_at_a_time_and_leave_nothing() -> None:
    turns = Turns()
    async with turns.of("a", 1.0), turns.of("b", 0.0):
        with pytest.raises(NotYet):
            async with turns.of("a", 0.01):
                raise AssertionError
        assert len(turns) == 2
        with pytest.raises(ZeroDivisionError):
            async with turns.of("c", 0.0):
                raise ZeroDivisionError
    assert len(turns) == 0
