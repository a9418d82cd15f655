"""Outbox to inbox over a real socket: whatever breaks, every event has its effect once."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from proxyless.events.v1 import (
    EventFeedStub,
    FeedEvent,
    FollowRequest,
    add_EventFeedServicer_to_server,
)

from mesh.events import Event, Message, Outbox
from mesh.events.feed import Feed, follow
from mesh.policy.backoff import Backoff
from mesh.store import Database, Transaction
from tests.events.conftest import appended

QUICK = Backoff(base=0.01, cap=0.05)


async def append(outbox: Outbox, *aggregate_ids: str) -> list[Event]:
    messages = [Message("OrderCreated", "order", each, each.encode()) for each in aggregate_ids]
    return await outbox.database.transaction(lambda tx: appended(tx, outbox, *messages))


@asynccontextmanager
async def serving(outbox: Outbox, port: int = 0, **options: Any) -> AsyncIterator[int]:
    server = grpc.aio.server()
    add_EventFeedServicer_to_server(Feed(outbox, **options), server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@asynccontextmanager
async def channel(port: int) -> AsyncIterator[grpc.aio.Channel]:
    options = [
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 100),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as open_channel:
        yield open_channel


async def write(tx: Transaction, event: Event) -> None:
    await tx.execute(
        "insert into effect (event_id, what) values ($1, $2)", event.event_id, event.aggregate_id
    )


@asynccontextmanager
async def following(
    port: int, target: Database, handler: Any = write, **options: Any
) -> AsyncIterator[None]:
    async with channel(port) as open_channel:
        task = asyncio.create_task(
            follow(
                open_channel,
                target,
                consumer="notifications",
                source="orders",
                handler=handler,
                backoff=QUICK,
                **options,
            )
        )
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def effects(target: Database, count: int) -> list[str]:
    """The effects, as soon as there are so many."""
    async with asyncio.timeout(20):
        async for _ in target.changes():
            rows = await target.read(
                lambda tx: tx.fetch("select event_id from effect order by place")
            )
            if len(rows) >= count:
                return [row["event_id"] for row in rows]
    raise AssertionError("the database was closed")


def names(*batches: list[Event]) -> list[str]:
    return [event.event_id for batch in batches for event in batch]


async def test_who_asks_for_the_past_only_is_answered_it_and_no_more(
    source: Database,
) -> None:
    outbox = Outbox(source)
    told = await append(outbox, *"ab" * 120)
    async with serving(outbox) as port, channel(port) as open_channel, asyncio.timeout(20):
        stream = EventFeedStub(open_channel).Follow(FollowRequest(only_past=True))
        assert [message.event_id async for message in stream] == names(told)


async def test_a_follower_hears_what_was_and_what_comes(
    source: Database, target: Database, sort: str
) -> None:
    outbox = Outbox(source)
    before = await append(outbox, "a", "b", "a")
    async with serving(outbox) as port, following(port, target):
        assert await effects(target, 3) == names(before)
        after = await append(outbox, "b", "c")
        assert await effects(target, 5) == names(before, after)


async def test_every_field_arrives(source: Database, target: Database) -> None:
    heard: list[Event] = []

    async def hear(tx: Transaction, event: Event) -> None:
        heard.append(event)
        await write(tx, event)

    outbox = Outbox(source, clock=lambda: 1700000000.25)
    message = Message("OrderCreated", "order", "o-1", b"\x00payload", "00-ab-cd-01")
    async with serving(outbox) as port, following(port, target, hear):
        sent = await source.transaction(lambda tx: appended(tx, outbox, message))
        await effects(target, 1)
    assert heard == sent


async def test_only_the_topics_asked_for_are_heard(source: Database, target: Database) -> None:
    outbox = Outbox(source)
    other = Message("PaymentCompleted", "payment", "p-1", b"")
    async with serving(outbox) as port, following(port, target, topics=["order"]):
        await source.transaction(lambda tx: outbox.append(tx, other))
        events = await append(outbox, "a")
        assert await effects(target, 1) == names(events)


async def test_a_server_that_dies_and_returns_loses_and_repeats_nothing(
    source: Database, target: Database
) -> None:
    outbox = Outbox(source)
    batches = [await append(outbox, "a")]
    async with serving(outbox) as port:
        pass
    async with following(port, target):
        for round_ in range(5):
            async with serving(outbox, port):
                batches.append(await append(outbox, *(f"o-{n % 3}" for n in range(30))))
                await effects(target, len(names(*batches)) - round_ * 5)
            batches.append(await append(outbox, "while", "away"))
        async with serving(outbox, port):
            assert await effects(target, len(names(*batches))) == names(*batches)


async def test_followers_that_come_and_go_have_one_effect_an_event(
    source: Database, target: Database, target_url: str
) -> None:
    outbox = Outbox(source)
    events = await append(outbox, *(f"o-{n % 9}" for n in range(2000)))
    async with serving(outbox) as port:
        for n in range(8):
            async with following(port, target):
                await effects(target, n * 200 + 1)
        async with following(port, target):
            assert await effects(target, 2000) == names(events)


async def test_two_instances_following_at_once_have_one_effect_an_event(
    source: Database, target: Database
) -> None:
    outbox = Outbox(source)
    async with serving(outbox) as port, following(port, target), following(port, target):
        events = await append(outbox, *(f"o-{n % 9}" for n in range(500)))
        assert await effects(target, 500) == names(events)


async def test_a_stream_that_ends_is_followed_on_and_tells_how_far_it_came(
    source: Database, target: Database
) -> None:
    outbox = Outbox(source)
    async with serving(outbox, stream_seconds=0.05) as port, following(port, target):
        events = await append(outbox, "a", "b")
        await effects(target, 2)
        async with asyncio.timeout(10):
            async for _ in source.changes():
                row = await source.read(lambda tx: tx.fetchrow("select * from outbox_follower"))
                if row and row["position"] == events[-1].position:
                    break
        more = await append(outbox, "c")
        assert await effects(target, 3) == names(events, more)


async def test_a_poison_event_is_tried_again_and_nobody_else_waits(
    source: Database, target: Database
) -> None:
    failures = 3

    async def fail_at_first(tx: Transaction, event: Event) -> None:
        nonlocal failures
        if event.aggregate_id == "poison" and failures:
            failures -= 1
            raise ValueError("not yet")
        await write(tx, event)

    outbox = Outbox(source)
    async with serving(outbox) as port, following(port, target, fail_at_first):
        poison, good, behind = await append(outbox, "poison", "good", "poison")
        assert await effects(target, 3) == names([good, poison, behind])


START_COUNTING = {
    "sqlite": "delete from sqlite_sequence",
    "postgresql": "alter table outbox alter column position restart",
}


async def test_an_outbox_that_was_lost_is_followed_from_its_start(
    source: Database, target: Database, sort: str
) -> None:
    outbox = Outbox(source)
    before = await append(outbox, *"abc")
    async with serving(outbox) as port, following(port, target):
        await effects(target, 3)
    await source.transaction(lambda tx: tx.execute("delete from outbox"))
    await source.transaction(lambda tx: tx.execute(START_COUNTING[sort]))
    after = await append(outbox, "d")
    async with serving(outbox) as port, following(port, target):
        assert await effects(target, 4) == names(before, after)


async def test_a_follower_that_does_not_read_stops_the_server_from_reading(
    source: Database,
) -> None:
    outbox = Outbox(source)
    payload = b"x" * 100_000

    async def fill(tx: Transaction) -> None:
        for _ in range(400):
            await outbox.append(tx, Message("Big", "order", "a", payload))

    await source.transaction(fill)
    reads = 0
    after = outbox.after

    async def counting(*args: Any, **rest: Any) -> list[Event]:
        nonlocal reads
        reads += 1
        return await after(*args, **rest)

    outbox.after = counting  # type: ignore[method-assign]
    async with serving(outbox) as port, channel(port) as open_channel:
        stream = EventFeedStub(open_channel).Follow(FollowRequest(consumer="lazy"))
        first: FeedEvent = await stream.read()
        assert first.position == 1
        await asyncio.sleep(0.3)
        assert reads < 4, "not all of the 400 events were read: they wait for the follower"
        positions = [event.position async for event in _take(stream, 399)]
        assert positions == list(range(2, 401))
        stream.cancel()


async def _take(stream: Any, count: int) -> AsyncIterator[FeedEvent]:
    for _ in range(count):
        yield await stream.read()


FOLLOWER = """
import asyncio, sys
import grpc
from mesh.events.feed import follow
from mesh.store import connect

async def main(port, url):
    async def write(tx, event):
        sql = "insert into effect (event_id, what) values ($1, $2)"
        await tx.execute(sql, event.event_id, event.aggregate_id)
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        connect(url) as database,
    ):
        await follow(channel, database, consumer="notifications", source="orders", handler=write)

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


async def test_a_follower_killed_again_and_again_has_one_effect_an_event(
    source: Database, target: Database, target_url: str
) -> None:
    outbox = Outbox(source)
    events = await append(outbox, *(f"o-{n % 9}" for n in range(3000)))
    async with serving(outbox) as port:
        for n in range(4):
            follower = await asyncio.create_subprocess_exec(
                sys.executable, "-c", FOLLOWER, str(port), target_url
            )
            try:
                await effects(target, min(3000, n * 150 + 1))
            finally:
                follower.kill()
                await follower.wait()
        async with following(port, target):
            assert await effects(target, 3000) == names(events)


@pytest.mark.parametrize("position", [1, 10])
async def test_a_position_that_never_was_is_refused(
    source: Database, tmp_path: Path, position: int
) -> None:
    async with serving(Outbox(source)) as port, channel(port) as open_channel:
        stream = EventFeedStub(open_channel).Follow(FollowRequest(after_position=position))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
    assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
