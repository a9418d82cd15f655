"""
RabbitMQ as a bus: an exchange a source, and for each group quorum queues that share its events.

    exchange events.<source> --partition by aggregate--> queue <source>.<group>.0 .. 7
                                                              | each with one active consumer
                                 <source>.<group>.dead  <-----+ rejected, or delivered too often

Publications are confirmed, which for a quorum queue means written and synced by a majority, and
mandatory: one that no queue takes comes back as Unheard.  The partition of an event is computed
here, so that no plug-in is needed; how members share the queues is rabbitmq_group.py's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from random import Random
from typing import Any, NoReturn, Self

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from aio_pika.exceptions import AMQPError, ChannelPreconditionFailed, DeliveryError
from yarl import URL

from mesh.events.bus import CONNECT_SECONDS, BusError, EventRefused, Take, Unheard
from mesh.events.envelope import headers, partition, word
from mesh.events.event import Event
from mesh.events.lanes import in_lanes
from mesh.events.rabbitmq_group import Member
from mesh.events.url import without_password

PARTITIONS = 8
# A connection that says nothing for this long is given up by either side, in seconds.
HEARTBEAT_SECONDS = 10
# One publication takes no longer, in seconds.
PUBLISH_SECONDS = 5.0
# An event that so many consumers were given and none took, as they died of it, goes to the dead.
DELIVERIES = 100

_NO_ROUTE = 312


class RabbitBus:
    """A Bus on amqp://[user:password@]host[:port]/[vhost], or amqps://."""

    def __init__(
        self, url: str, *, partitions: int = PARTITIONS, rng: Random | None = None
    ) -> None:
        self._url = url
        self._name = without_password(url)
        self._partitions = partitions
        self._rng = rng or Random()
        self._connecting = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._exchanges: dict[str, AbstractExchange] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        with self._translated():
            self._connection = await self._connect()
        return self

    async def __aexit__(self, *reason: object) -> None:
        self._drop()
        if self._closing:
            await asyncio.wait(self._closing)

    async def declare(self, source: str, group: str, topics: Sequence[str]) -> None:
        with self._translated():
            async with self._connected() as connection:
                await self._declare(await connection.channel(), source, group)

    async def publish(self, source: str, events: Sequence[Event]) -> None:
        try:
            with self._translated():
                exchange = await self._exchange(source)
                alone = len(events) == 1
                await in_lanes(events, lambda event: self._send(exchange, source, event, alone))
        except Unheard:
            raise
        except BaseException:
            # Failed or given up by the caller: who knows what is left of it.  The next one is new.
            self._drop()
            raise

    async def consume(self, source: str, group: str, topics: Sequence[str], take: Take) -> NoReturn:
        with self._translated():
            # Of its own: a broker that is short of memory stops connections that publish.
            async with self._connected() as connection:
                await self._declare(await connection.channel(), source, group)
                queues = [_queue(source, group, number) for number in range(self._partitions)]
                roster = f"events.{word(source)}.{word(group)}.members"
                await Member(connection, roster, queues, take, rng=self._rng).run()

    async def _send(
        self, exchange: AbstractExchange, source: str, event: Event, alone: bool
    ) -> None:
        message = aio_pika.Message(
            event.payload,
            headers=dict(headers(event)),
            message_id=event.event_id,
            type=event.event_type,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        line = str(partition(event, self._partitions))
        try:
            await exchange.publish(message, line, mandatory=True, timeout=PUBLISH_SECONDS)
        except ChannelPreconditionFailed as error:
            # "message size 2 is larger than configured max size 1": the channel is closed with it,
            # and which of several it was of, nobody says.
            if alone:
                raise EventRefused(self._name, event, str(error)) from error
            raise
        except DeliveryError as error:
            if getattr(error.frame, "reply_code", 0) == _NO_ROUTE:
                raise Unheard(self._name, source) from error
            raise BusError(self._name, f"the broker refused event {event.event_id}") from error

    async def _exchange(self, source: str) -> AbstractExchange:
        """The source's exchange, on a channel that is open."""
        async with self._connecting:
            if self._connection is None:
                self._connection = await self._connect()
            if self._channel is None:
                self._channel = await self._connection.channel(on_return_raises=True)
            if source not in self._exchanges:
                self._exchanges[source] = await _declare_exchange(self._channel, source)
            return self._exchanges[source]

    def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        self._exchanges.clear()
        if connection is not None:
            closing = asyncio.create_task(_close(connection))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _declare(self, channel: AbstractChannel, source: str, group: str) -> None:
        """The group's queues, each bound to its partition, and the one of its dead."""
        exchange = await _declare_exchange(channel, source)
        dead = f"events.{word(source)}.{word(group)}.dead"
        await channel.declare_queue(dead, durable=True, arguments={"x-queue-type": "quorum"})
        arguments: Any = {
            "x-queue-type": "quorum",
            "x-single-active-consumer": True,
            "x-delivery-limit": DELIVERIES,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": dead,
            # None is lost on its way to the dead; the strategy asks for the overflow.
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
        for number in range(self._partitions):
            name = _queue(source, group, number)
            queue = await channel.declare_queue(name, durable=True, arguments=arguments)
            await queue.bind(exchange, str(number))

    async def _connect(self) -> AbstractConnection:
        url = URL(self._url)
        if "heartbeat" not in url.query:
            url = url.update_query(heartbeat=HEARTBEAT_SECONDS)
        connection = aio_pika.Connection(url)
        try:
            await connection.connect(timeout=CONNECT_SECONDS)
        except BaseException:
            await connection.close()
            raise
        return connection

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AbstractConnection]:
        """A connection of one's own."""
        connection = await self._connect()
        try:
            yield connection
        finally:
            await _close(connection)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except BusError:
            raise
        except (AMQPError, OSError, RuntimeError, TimeoutError) as error:
            # RuntimeError is how a channel says that it was closed meanwhile.
            raise BusError(self._name, str(error).strip() or "does not answer") from error


async def _close(connection: AbstractConnection) -> None:
    with suppress(AMQPError, OSError, RuntimeError, TimeoutError):
        async with asyncio.timeout(CONNECT_SECONDS):
            await connection.close()


async def _declare_exchange(channel: AbstractChannel, source: str) -> AbstractExchange:
    return await channel.declare_exchange(f"events.{word(source)}", durable=True)


def _queue(source: str, group: str, number: int) -> str:
    return f"events.{word(source)}.{word(group)}.{number}"
