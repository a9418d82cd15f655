"""A command asked twice runs once: over real sockets, on a real database, through crashes."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from mesh.errors import Code, StatusError
from mesh.server import Server
from mesh.server.idempotency import Idempotency, current_key, is_read, keep
from mesh.server.key import fingerprint
from mesh.server.ledger import FREE, Ledger, Mark
from mesh.server.owner import is_gone, new_owner
from mesh.server.status import from_error
from mesh.store import Database, connect
from tests.server.echo import SERVICE, Echo, EchoStub, Text

REUSED = "IDEMPOTENCY_KEY_REUSED"
IN_PROGRESS = "IDEMPOTENCY_IN_PROGRESS"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with connect(f"sqlite:///{tmp_path}/echo.db") as opened:
        await opened.migrate("effects", ["create table effect (text text not null)"])
        yield opened


async def effects(database: Database) -> list[str]:
    rows = await database.read(lambda tx: tx.fetch("select text from effect order by rowid"))
    return [row["text"] for row in rows]


class Commands(Echo):
    """Every Say leaves one effect, numbered, and answers with its number."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.runs = 0
        self.begun = asyncio.Event()
        self.release = asyncio.Event()
        self.release.set()
        self.error: Exception | None = None

    async def Say(self, request: Any, context: Any) -> Any:
        self.runs += 1
        run = self.runs
        self.begun.set()
        await self.release.wait()
        if self.error is not None:
            raise self.error
        reply = Text(text=request.text, number=run)

        async def work(tx: Any) -> None:
            await tx.execute("insert into effect values ($1)", request.text)

        await self.database.transaction(work)
        return reply


class Kept(Commands):
    """The same, with the reply stored in the effect's own transaction, and a fault after it."""

    fails_after = False

    async def Say(self, request: Any, context: Any) -> Any:
        self.runs += 1
        reply = Text(text=request.text, number=self.runs)

        async def work(tx: Any) -> None:
            await tx.execute("insert into effect values ($1)", request.text)
            await keep(tx, reply)

        await self.database.transaction(work)
        self.begun.set()
        await self.release.wait()
        if self.fails_after:
            raise StatusError(Code.UNAVAILABLE, "after the effect", reason="LATER", domain="test")
        return reply


@asynccontextmanager
async def serving(servicer: Commands, **options: Any) -> AsyncIterator[EchoStub]:
    async with (
        Idempotency(servicer.database, **options) as idempotency,
        Server("echo", [servicer], interceptors=[idempotency]).serving() as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield EchoStub(channel)


def key(value: str) -> tuple[tuple[str, str], ...]:
    return (("idempotency-key", value),)


async def answer(call: Any) -> tuple[str, bool]:
    """What was answered, and whether it was said to be a replay."""
    try:
        reply = await call
        said = f"{reply.text} {reply.number}"
    except grpc.aio.AioRpcError as error:
        said = from_error(error).reason
    return said, ("idempotent-replayed", "true") in tuple(await call.initial_metadata())


async def test_the_same_key_gives_the_same_answer_once_more(database):
    commands = Commands(database)
    async with serving(commands) as echo:
        assert await answer(echo.Say(Text(text="a"), metadata=key("k"))) == ("a 1", False)
        assert await answer(echo.Say(Text(text="a"), metadata=key("k"))) == ("a 1", True)
        assert await answer(echo.Say(Text(text="a", request_id="k"))) == ("a 1", True)
        assert await answer(echo.Say(Text(text="a", request_id="k", wait=True))) == ("a 1", True)
        assert await answer(echo.Say(Text(text="a"), metadata=key("other"))) == ("a 2", False)
        assert await answer(echo.Say(Text(text="a"))) == ("a 3", False)
    assert await effects(database) == ["a", "a", "a"]


async def test_the_handler_can_read_its_key(database):
    class Reads(Commands):
        async def Say(self, request, context):
            return Text(text=str(current_key()))

    async with serving(Reads(database)) as echo:
        assert (await echo.Say(Text(request_id="k-1"))).text == "k-1"
        assert (await echo.Say(Text())).text == "None"


@pytest.mark.parametrize(
    ("request_", "metadata", "reason"),
    [
        (Text(text="b"), key("k"), REUSED),
        (Text(text="a", number=1), key("k"), REUSED),
        (Text(text="a", request_id="x"), key("k"), "IDEMPOTENCY_KEY_MISMATCH"),
        (Text(text="a"), (*key("k"), *key("l")), "IDEMPOTENCY_KEY_MISMATCH"),
        (Text(text="a"), key("k" * 256), "IDEMPOTENCY_KEY_INVALID"),
        (Text(text="a", request_id="k"), key("k"), "a 1"),
    ],
)
async def test_a_key_means_one_request(database, request_, metadata, reason):
    commands = Commands(database)
    async with serving(commands) as echo:
        await echo.Say(Text(text="a"), metadata=key("k"))
        said, _ = await answer(echo.Say(request_, metadata=metadata))
    assert said == reason
    assert commands.runs == 1


async def test_a_key_belongs_to_its_caller(database):
    commands = Commands(database)

    def caller(context: Any) -> str:
        return str(dict(context.invocation_metadata()).get("who", ""))

    async with serving(commands, caller=caller) as echo:
        for who, expected in (("ann", "a 1"), ("bob", "a 2"), ("ann", "a 1")):
            metadata = (*key("k"), ("who", who))
            assert (await answer(echo.Say(Text(text="a"), metadata=metadata)))[0] == expected


async def test_an_invalid_request_leaves_its_key_free(database):
    commands = Commands(database)
    async with serving(commands) as echo:
        said, _ = await answer(echo.Say(Text(number=-1), metadata=key("k")))
        assert said == "INVALID_REQUEST"
        assert await answer(echo.Say(Text(text="a"), metadata=key("k"))) == ("a 1", False)


@pytest.mark.parametrize("code", [each for each in Code if each is not Code.OK])
async def test_only_errors_that_stay_true_are_answered_again(database, code):
    final = {"NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "OUT_OF_RANGE"}
    commands = Commands(database)
    commands.error = StatusError(code, "no", reason="REFUSED", domain="test", fields=[("f", "w")])
    async with serving(commands) as echo:
        assert await answer(echo.Say(Text(), metadata=key("k"))) == ("REFUSED", False)
        again = echo.Say(Text(), metadata=key("k"))
        assert await answer(again) == ("REFUSED", code.name in final)
        with pytest.raises(grpc.aio.AioRpcError) as said:
            await again
    assert (said.value.code().name, from_error(said.value).fields) == (code.name, (("f", "w"),))
    assert commands.runs == (1 if code.name in final else 2)


async def test_an_unexpected_error_leaves_the_key_free(database):
    commands = Commands(database)
    commands.error = ValueError("bug")
    async with serving(commands) as echo:
        assert await answer(echo.Say(Text(), metadata=key("k"))) == ("INTERNAL", False)
        commands.error = None
        assert await answer(echo.Say(Text(), metadata=key("k"))) == (" 2", False)


async def test_a_duplicate_waits_for_the_first_and_gets_its_answer(database):
    commands = Commands(database)
    commands.release.clear()
    async with serving(commands, wait=10.0) as echo:
        first = asyncio.ensure_future(answer(echo.Say(Text(text="a"), metadata=key("k"))))
        await asyncio.wait_for(commands.begun.wait(), 5)
        second = asyncio.ensure_future(answer(echo.Say(Text(text="a"), metadata=key("k"))))
        done, _ = await asyncio.wait({second}, timeout=0.2)
        assert not done
        start = time.monotonic()
        commands.release.set()
        assert await asyncio.wait_for(first, 5) == ("a 1", False)
        assert await asyncio.wait_for(second, 5) == ("a 1", True)
        assert time.monotonic() - start < 1.0
    assert commands.runs == 1


@pytest.mark.parametrize(("wait", "timeout"), [(0.2, None), (30.0, 0.6)])
async def test_a_duplicate_waits_no_longer_than_its_patience_or_deadline(database, wait, timeout):
    commands = Commands(database)
    commands.release.clear()
    async with serving(commands, wait=wait) as echo:
        first = asyncio.ensure_future(answer(echo.Say(Text(text="a"), metadata=key("k"))))
        await asyncio.wait_for(commands.begun.wait(), 5)
        start = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo.Say(Text(text="a"), metadata=key("k"), timeout=timeout)
        assert time.monotonic() - start < 3
        if timeout is None:
            said = from_error(caught.value)
            assert (said.code, said.reason) == (Code.ABORTED, IN_PROGRESS)
            assert said.retry_after == 1.0
        commands.release.set()
        assert await first == ("a 1", False)
    assert commands.runs == 1


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
        with pytest.raises(grpc.aio.AioRpcError):
            await echo.Say(Text(text="a"), metadata=key("k"), timeout=0.3)
        commands.release.set()
        assert await answer(echo.Say(Text(text="a"), metadata=key("k"))) == ("a 2", False)
    assert await effects(database) == ["a"]


async def test_what_was_kept_with_the_effect_is_answered_though_the_handler_failed(database):
    commands = Kept(database)
    commands.fails_after = True
    async with serving(commands) as echo:
        assert await answer(echo.Say(Text(text="a"), metadata=key("k"))) == ("LATER", False)
        assert await answer(echo.Say(Text(text="a"), metadata=key("k"))) == ("a 1", True)
    assert await effects(database) == ["a"]


async def test_what_was_kept_is_still_in_progress_until_the_handler_answers(database):
    commands = Kept(database)
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


async def test_of_two_instances_that_race_one_runs(tmp_path):
    url = f"sqlite:///{tmp_path}/shared.db"
    async with AsyncExitStack() as stack:
        echoes, instances = [], []
        for _ in range(2):
            database = await stack.enter_async_context(connect(url))
            await database.migrate("effects", ["create table effect (text text not null)"])
            instances.append(Commands(database))
            echoes.append(await stack.enter_async_context(serving(instances[-1])))
        said = await asyncio.gather(
            *(
                answer(echoes[n % 2].Say(Text(text="a"), metadata=key(f"k-{n // 10}")))
                for n in range(50)
            )
        )
        assert sorted(set(await effects(instances[0].database))) == ["a"]
        assert len(await effects(instances[0].database)) == 5
    assert sum(each.runs for each in instances) == 5
    assert [replayed for _, replayed in said].count(False) == 5


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


async def test_the_key_of_a_killed_owner_is_free_at_once(tmp_path):
    url = f"sqlite:///{tmp_path}/shared.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM.format(root=str(Path.cwd()), url=url),
        stdout=asyncio.subprocess.PIPE,
    )
    async with connect(url) as database:
        await database.migrate("effects", ["create table effect (text text not null)"])
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


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Text(text="a"), Text(text="a", request_id="k"), True),
        (Text(text="a"), Text(text="a", wait=True), True),
        (Text(text="a"), Text(text="b"), False),
        (Text(items=[Text(wait=True)]), Text(items=[Text()]), False),
        (Text(text="a"), Text(items=[Text(text="a")]), False),
    ],
)
def test_the_fingerprint_is_of_what_is_asked(one, other, same):
    assert (fingerprint(one) == fingerprint(other)) is same


@pytest.mark.parametrize(
    ("method", "read"),
    [
        ("/shop.orders.v1.OrderService/GetOrder", True),
        ("/shop.orders.v1.OrderService/CreateOrder", False),
        ("/shop.orders.v1.OrderService/CancelOrder", False),
        (f"/{SERVICE}/Say", False),
        ("/no.Such/Method", False),
    ],
)
def test_a_key_on_a_read_means_nothing(method, read):
    __import__("shop.orders.v1")
    assert is_read(method) is read
