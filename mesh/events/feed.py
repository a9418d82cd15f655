"""
The feed: a service's outbox, streamed over gRPC to whoever follows it.  No broker is needed.

    outbox --read batch--> Follow ==stream==> follow --batch--> inbox.deliver (one transaction)
       ^ commits by any instance                 |
       +------- "after position n", for ever ----+ reconnects under backoff

A follower's position lies in its own database; when it asks again, that is what it has dealt with.
Streams end after STREAM_SECONDS so that every follower does ask again, perhaps of another instance.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from random import Random
from typing import Any, NoReturn

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from proxyless.events.v1 import EventFeedServicer, EventFeedStub, FeedEvent, FollowRequest

from mesh.events.event import Event
from mesh.events.inbox import ATTEMPTS, Handler, Inbox
from mesh.events.outbox import Outbox
from mesh.policy.backoff import Backoff
from mesh.store.database import Database, StoreError

logger = logging.getLogger("mesh.events")

# Events read from the outbox at once, and taken into an inbox in one transaction.
BATCH = 100
# A stream's longest life, in seconds.
STREAM_SECONDS = 300.0
# Between two streams that brought nothing, in seconds.
RECONNECT = Backoff(base=0.1, cap=5.0)


class Feed(EventFeedServicer):
    """Serves EventFeed from an outbox; any instance on its database may serve any follower."""

    def __init__(self, outbox: Outbox, *, stream_seconds: float = STREAM_SECONDS) -> None:
        self._outbox = outbox
        self._stream_seconds = stream_seconds

    async def Follow(self, request: FollowRequest, context: Any) -> AsyncIterator[FeedEvent]:
        database, position = self._outbox.database, request.after_position
        topics = tuple(request.topics)
        newest = await database.read(self._outbox.newest)
        if position > newest:
            # The follower followed another outbox, which was lost: let it start again.
            await context.abort(
                grpc.StatusCode.OUT_OF_RANGE, f"position {position} is after the last, {newest}"
            )
        if request.consumer:
            await database.transaction(
                lambda tx: self._outbox.seen(tx, request.consumer, request.after_position)
            )
        changes = database.changes()
        ends = asyncio.get_running_loop().time() + self._stream_seconds
        while True:
            try:
                async with asyncio.timeout_at(ends):
                    await anext(changes)
            except (TimeoutError, StopAsyncIteration):
                return
            more = True
            while more:
                batch = await self._read(position, topics)
                for event in batch:
                    yield _message(event)
                    position = event.position
                more = len(batch) == BATCH  # what is committed meanwhile is another change
            if request.only_past:
                return

    async def _read(self, position: int, topics: Sequence[str]) -> list[Event]:
        return await self._outbox.database.read(
            lambda tx: self._outbox.after(tx, position, BATCH, topics)
        )


async def follow(
    channel: grpc.aio.Channel,
    database: Database,
    *,
    consumer: str,
    source: str,
    handler: Handler,
    topics: Sequence[str] = (),
    attempts: int = ATTEMPTS,
    backoff: Backoff = RECONNECT,
    clock: Callable[[], float] = time.time,
    rng: Random | None = None,
) -> NoReturn:
    """
    Have `handler` see every event that `source` feeds into `channel`, for ever, each once.

    `handler(tx, event)` runs in the transaction that remembers the event; see inbox.py for what
    becomes of an event whose handler raises.
    """
    rng = rng or Random()
    inbox = Inbox(
        database,
        consumer=consumer,
        source=source,
        handler=handler,
        attempts=attempts,
        clock=clock,
        rng=rng,
    )
    news = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(inbox.tend(news))
        stub, failures = EventFeedStub(channel), 0
        while True:
            begun = asyncio.get_running_loop().time()
            try:
                position = await inbox.position()
                request = FollowRequest(consumer=consumer, after_position=position, topics=topics)
                received = await _receive(stub.Follow(request), inbox, news)
                failures = 0 if received else failures + 1
            except grpc.RpcError as error:
                failures += 1
                logger.info("%s lost the feed of %s: %s", consumer, source, _status(error))
                if _code(error) is grpc.StatusCode.OUT_OF_RANGE:
                    logger.warning("%s starts again with the feed of %s", consumer, source)
                    await inbox.rewind()
            except StoreError as error:
                failures += 1
                logger.warning("%s can't take in the feed of %s: %s", consumer, source, error)
            if asyncio.get_running_loop().time() - begun > backoff.cap:
                failures = min(failures, 1)  # it lived: that its time was up is no trouble
            if failures:
                await asyncio.sleep(backoff.delay(failures, rng))
    raise AssertionError("a feed is followed until its task is cancelled")


async def _receive(stream: Any, inbox: Inbox, news: asyncio.Event) -> bool:
    """Take in what a stream brings until it ends; answers whether it brought anything."""
    ahead, received = _Ahead(stream), False
    try:
        while batch := await ahead.take():
            received = True
            if await inbox.deliver(batch):
                news.set()
    except grpc.RpcError:
        if not received:
            raise
    finally:
        await ahead.close()
    return received


class _Ahead:
    """Reads a stream ahead by one batch, so that what arrives together is taken in together."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._events: list[Event] = []
        self._arrived, self._room = asyncio.Event(), asyncio.Event()
        self._pump = asyncio.create_task(self._run())
        self._pump.add_done_callback(lambda _: self._arrived.set())

    async def take(self) -> list[Event]:
        """What has arrived, at least one event; none at the stream's end.  Raises its error."""
        await self._arrived.wait()
        batch, self._events = self._events, []
        self._room.set()
        if not self._pump.done():
            self._arrived.clear()
        elif not batch:
            self._pump.result()
        return batch

    async def close(self) -> None:
        self._pump.cancel()
        self._stream.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)

    async def _run(self) -> None:
        async for message in self._stream:
            self._events.append(_event(message))
            self._arrived.set()
            if len(self._events) >= BATCH:
                self._room.clear()
                await self._room.wait()


def _code(error: grpc.RpcError) -> grpc.StatusCode | None:
    code = getattr(error, "code", None)
    return code() if callable(code) else None


def _status(error: grpc.RpcError) -> str:
    code, details = _code(error), getattr(error, "details", None)
    name = code.name if code else type(error).__name__
    return f"{name}: {details() if callable(details) else error}"


def _message(event: Event) -> FeedEvent:
    occurred_at = Timestamp()
    occurred_at.FromMicroseconds(round(event.occurred_at * 1e6))
    return FeedEvent(
        position=event.position,
        event_id=event.event_id,
        event_type=event.event_type,
        aggregate=event.aggregate,
        aggregate_id=event.aggregate_id,
        sequence=event.sequence,
        occurred_at=occurred_at,
        traceparent=event.traceparent,
        payload=event.payload,
    )


def _event(message: FeedEvent) -> Event:
    return Event(
        position=message.position,
        event_id=message.event_id,
        event_type=message.event_type,
        aggregate=message.aggregate,
        aggregate_id=message.aggregate_id,
        sequence=message.sequence,
        occurred_at=message.occurred_at.ToMicroseconds() / 1e6,
        traceparent=message.traceparent,
        payload=message.payload,
    )
