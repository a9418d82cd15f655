"""A key survives its owner: leases, fences, races of two instances, kill -9 and forgetting."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest

from mesh.errors import Code, StatusError
from mesh.server.idempotency import Idempotency, in_one_transaction, keep
from mesh.server.ledger import FREE, Ledger, Mark
from mesh.server.owner import is_gone, new_owner
from mesh.store import Database, connect
from tests.server.commands import (
    EFFECT,
    IN_PROGRESS,
    Commands,
    Kept,
    KeptAtOnce,
    answer,
    effects,
    key,
    serving,
)
from tests.server.echo import EchoStub, Text

KEPT = (Kept, KeptAtOnce)


async def test_a_handler_slower_than_its_lease_keeps_it_by_renewing(database):
    commands = Commands(database)
    commands.release.clear()
    async with serving(commands, lease=0.4, wait=1.0) as echo:
        first = asyncio.ensure_future(answer(echo.Say(Text(text="a"), metadata=key("k"))))
        await asyncio.wait_for(commands.begun.wait(), 5)
        assert (await answer(echo.Say(Text(text="a"), metadata=key("k"))))[0] == IN_PROGRESS
        commands.release.set()
        assert await first == ("a 1", False)
    assert commands.runs == 1


async def test_a_call_cancelled_by_its_deadline_frees_its_key(database):
    commands = Commands(database)
    commands.release.clear()
    async with serving(commands) as echo:
        first = asyncio.ensure_future(echo.Say(Text(text="a"), metadata=key("k"), timeout=2.0))
        await asyncio.wait_for(commands.begun.wait(), 5)
        with pytest.raises(grpc.aio.AioRpcError):
            await first
        async with asyncio.timeout(5):
            async for _ in database.changes():  # the server hears of it in its own time
                if not await database.read(lambda tx: tx.fetch("select key from idempotency")):
                    break
        commands.release.set()
        assert await answer(echo.Say(Text(text="a"), metadata=key("k"))) == ("a 2", False)
    assert await effects(database) == ["a"]


@pytest.mark.parametrize("sort", KEPT)
async def test_what_was_kept_with_the_effect_is_answered_though_the_handler_failed(database, sort):
    commands = sort(database)
    commands.fails_after = True
    async with serving(commands) as echo:
        assert await answer(echo.Say(Text(text="a"), metadata=key("k"))) == ("LATER", False)
        assert await answer(echo.Say(Text(text="a"), metadata=key("k"))) == ("a 1", True)
    assert await effects(database) == ["a"]


@pytest.mark.parametrize("sort", KEPT)
async def test_what_was_kept_as_final_is_answered_while_the_handler_still_runs(database, sort):
    commands = sort(database)
    commands.release.clear()
    async with serving(commands, wait=0.2) as echo:
        first = asyncio.ensure_future(answer(echo.Say(Text(text="a"), metadata=key("k"))))
        await asyncio.wait_for(commands.begun.wait(), 5)
        assert await answer(echo.Say(Text(text="a"), metadata=key("k"))) == ("a 1", True)
        commands.release.set()
        assert await first == ("a 1", False)


@pytest.mark.parametrize("sort", KEPT)
async def test_what_was_kept_for_now_is_still_in_progress_until_the_handler_answers(database, sort):
    commands = sort(database)
    commands.final = False
    commands.release.clear()
    async with serving(commands, wait=0.2) as echo:
        first = asyncio.ensure_future(answer(echo.Say(Text(text="a"), metadata=key("k"))))
        await asyncio.wait_for(commands.begun.wait(), 5)
        assert (await answer(echo.Say(Text(text="a"), metadata=key("k"))))[0] == IN_PROGRESS
        commands.release.set()
        assert await first == ("a 1", False)
        assert await answer(echo.Say(Text(text="a"), metadata=key("k"))) == ("a 1", True)


async def test_who_lost_its_lease_cannot_commit_an_effect(database):
    """A process that stood still while another took over the key finds the fence closed."""

    class Hangs(Kept):
        async def Say(self, request, context):
            self.begun.set()
            await self.release.wait()
            return await super().Say(request, context)

    commands = Hangs(database)
    commands.release.clear()
    async with serving(commands) as echo:
        first = asyncio.ensure_future(answer(echo.Say(Text(text="a"), metadata=key("k"))))
        await asyncio.wait_for(commands.begun.wait(), 5)
        await database.transaction(lambda tx: tx.execute("update idempotency set owner = 'thief'"))
        commands.release.set()
        assert await first == (IN_PROGRESS, False)
    assert await effects(database) == []


async def test_of_two_instances_that_race_one_runs(url):
    async with AsyncExitStack() as stack:
        echoes, instances = [], []
        for _ in range(2):
            database = await stack.enter_async_context(connect(url))
            await database.migrate("effects", [EFFECT])
            instances.append(Commands(database))
            serves = serving(instances[-1], wait=30.0)
            echoes.append(await stack.enter_async_context(serves))
        said = await asyncio.gather(
            *(
                answer(echoes[n % 2].Say(Text(text="a"), metadata=key(f"k-{n // 10}")))
                for n in range(50)
            )
        )
        assert sorted(set(await effects(instances[0].database))) == ["a"]
        assert len(await effects(instances[0].database)) == 5
    assert sum(each.runs for each in instances) == 5
    # On a slow machine some are told that the first one is still running, and had no reply.
    answered = [replayed for reply, replayed in said if reply != IN_PROGRESS]
    assert answered.count(False) == 5


async def test_a_result_is_forgotten_after_its_retention(database):
    now = time.time()
    commands = Commands(database)
    async with serving(commands, clock=lambda: now) as echo:
        for n in range(3):
            await echo.Say(Text(text="a"), metadata=key(f"k-{n}"))
        now += 23 * 3600
        assert (await answer(echo.Say(Text(text="a"), metadata=key("k-0"))))[1]
        now += 2 * 3600
        assert await answer(echo.Say(Text(text="a"), metadata=key("k-0"))) == ("a 4", False)
    rows = await database.read(lambda tx: tx.fetch("select key from idempotency"))
    assert [row["key"] for row in rows] == ["k-0"]


async def test_a_lease_of_an_unknown_machine_is_waited_for_and_then_taken(database):
    now = 1000.0
    ledger = Ledger(lambda: now, lease=2.0, retention=60.0)
    elsewhere = Mark("/s/M\n", "k", b"f", "elsewhere/1/1/a")
    here = Mark("/s/M\n", "k", b"f", new_owner())
    async with Idempotency(database):
        assert await database.transaction(lambda tx: ledger.claim(tx, elsewhere)) is FREE
        assert await database.transaction(lambda tx: ledger.claim(tx, here)) is not FREE
        now += 2.1
        assert await database.transaction(lambda tx: ledger.claim(tx, here)) is FREE
        assert not await database.transaction(lambda tx: ledger.renew(tx, elsewhere))
        assert await database.transaction(lambda tx: ledger.renew(tx, here))


PROGRAM = """
import asyncio, sys
sys.path.insert(0, {root!r})
from mesh.server import Server
from mesh.server.idempotency import Idempotency
from mesh.store import connect
from tests.server.echo import Echo

class Hangs(Echo):
    async def Say(self, request, context):
        print("begun", flush=True)
        await asyncio.Event().wait()

async def main():
    async with connect({url!r}) as database, Idempotency(database) as idempotency:
        async with Server("echo", [Hangs()], interceptors=[idempotency]).serving() as address:
            print(address, flush=True)
            await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_the_key_of_a_killed_owner_is_free_at_once(url):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM.format(root=str(Path.cwd()), url=url),
        stdout=asyncio.subprocess.PIPE,
    )
    async with connect(url) as database:
        await database.migrate("effects", [EFFECT])
        async with serving(Commands(database)) as echo:
            address = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()
            async with grpc.aio.insecure_channel(address) as channel:
                lost = EchoStub(channel).Say(Text(text="a"), metadata=key("k"))
                waiting = asyncio.ensure_future(answer(lost))
                assert await asyncio.wait_for(process.stdout.readline(), 20) == b"begun\n"
                process.send_signal(signal.SIGKILL)
                await process.wait()
                assert (await waiting)[0] == "UNAVAILABLE"
            start = time.monotonic()
            assert await answer(echo.Say(Text(text="a"), metadata=key("k"))) == ("a 1", False)
            assert time.monotonic() - start < 1.0
        assert await effects(database) == ["a"]


def test_an_owner_is_gone_only_when_that_is_certain():
    mine = new_owner()
    here, pid, born, run = mine.split("/")
    assert not is_gone(mine)
    assert is_gone(f"{here}/{pid}/{int(born) + 1}/{run}")
    assert is_gone(f"{here}/{2**22 - 3}/{born}/{run}")
    assert not is_gone(f"elsewhere/{pid}/1/{run}")


class Faulty(Commands):
    """Fails before the effect, after it, or not at all; slow or fast; by a seeded die."""

    def __init__(self, database: Database, seed: int) -> None:
        super().__init__(database)
        self.random = Random(seed)

    async def Say(self, request, context):
        fault = self.random.choice(("none", "none", "before", "after", "slow"))
        if fault == "before":
            raise StatusError(Code.UNAVAILABLE, "before", reason="BEFORE", domain="test")
        if fault == "slow":
            await asyncio.sleep(self.random.uniform(0.0, 0.1))

        async def work(tx: Any) -> None:
            await tx.execute("insert into effect (text) values ($1)", request.text)
            await keep(tx, Text(text=request.text, number=1))

        await self.database.transaction(work)
        if fault == "after":
            raise ValueError("after the effect")
        return Text(text=request.text, number=1)


class FaultyAtOnce(Faulty):
    """The same, with nothing written before the effect."""

    @in_one_transaction
    async def Say(self, request, context):
        return await super().Say(request, context)


@pytest.mark.parametrize("sort", [Faulty, FaultyAtOnce])
@pytest.mark.parametrize("seed", range(3))
async def test_in_a_storm_of_duplicates_faults_and_deadlines_each_effect_happens_once(
    url, seed, sort, caplog
):
    caplog.set_level(logging.CRITICAL)
    dice = Random(seed)
    async with AsyncExitStack() as stack:
        echoes = []
        for _ in range(2):
            database = await stack.enter_async_context(connect(url))
            await database.migrate("effects", [EFFECT])
            servicer = sort(database, seed)
            echoes.append(await stack.enter_async_context(serving(servicer)))

        async def insist(text: str) -> str:
            """Ask until there is an answer, impatiently."""
            async with asyncio.timeout(30):
                while True:
                    call = dice.choice(echoes).Say(
                        Text(text=text), metadata=key(text), timeout=dice.uniform(0.02, 0.5)
                    )
                    if await call.code() is grpc.StatusCode.OK:
                        return str((await call).text)

        keys = [f"k-{n}" for n in range(20)]
        said = await asyncio.gather(*(insist(each) for each in keys * 3))
        assert said == keys * 3
        assert sorted(await effects(database)) == sorted(keys)
