"""
NATS JetStream as a bus: one stream a source, its events spread over partitions by aggregate.

    events.<source>.<partition>  ->  stream events-<source>  ->  consumer <group>-<partition>

A consumer has one message on its way at a time (max_ack_pending), so a partition is in order
whichever members fetch it, also when a message comes again.  A publication that is repeated within
the duplicate window is known by its event id.  What is no event goes to dead.<source>.<group>.
JetStream keeps streams in files, and has written what it acknowledged to them, which is not to say
synced: a power cut can cost a single server some.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from random import Random
from typing import Any, NoReturn, Self

import nats
from nats.errors import Error
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import ConsumerConfig, StreamConfig
from nats.js.errors import APIError

from mesh.events.bus import RETENTION_SECONDS, BusError, EventRefused, Take
from mesh.events.envelope import Unreadable, headers, opened, partition, word
from mesh.events.event import Event
from mesh.events.lanes import in_lanes
from mesh.events.taking import hold
from mesh.events.url import without_password

logger = logging.getLogger("mesh.events")

PARTITIONS = 8
# The broker knows repeated events for so long, in seconds.
DUPLICATE_SECONDS = 120.0
# A message is somebody else's when nothing was heard of it for this long, in seconds.
ACK_SECONDS = 5.0
# One publication, one look for messages, one way to the broker take no longer, in seconds.
PUBLISH_SECONDS = 1.0
FETCH_SECONDS = 5.0
CONNECT_SECONDS = 2.0
# JSStreamMessageExceedsMaximumErr, in the server's table of errors.
TOO_LARGE_FOR_STREAM = 10054


class NatsBus:
    """A Bus on nats://[user:password@]host[:port]."""

    def __init__(
        self, url: str, *, partitions: int = PARTITIONS, rng: Random | None = None
    ) -> None:
        self._url = url
        self._name = without_password(url)
        self._partitions = partitions
        self._rng = rng or Random()
        self._streams: set[str] = set()

    async def __aenter__(self) -> Self:
        with self._translated():
            # Once connected it connects again for ever; the first time it has to succeed in time.
            async with asyncio.timeout(CONNECT_SECONDS):
                self._connection = await nats.connect(
                    self._url,
                    connect_timeout=CONNECT_SECONDS,
                    reconnect_time_wait=0.2,
                    max_reconnect_attempts=-1,
                    error_cb=_heard,
                )
        self._jetstream = self._connection.jetstream(timeout=CONNECT_SECONDS)
        return self

    async def __aexit__(self, *reason: object) -> None:
        with suppress(Error, OSError):
            await self._connection.close()

    async def declare(self, source: str, group: str, topics: Sequence[str]) -> None:
        await self._ensure(source)

    async def publish(self, source: str, events: Sequence[Event]) -> None:
        await self._ensure(source)
        with self._translated():
            await in_lanes(events, lambda event: self._publish(source, event))

    async def consume(self, source: str, group: str, topics: Sequence[str], take: Take) -> NoReturn:
        await self._ensure(source)
        with self._translated():
            try:
                async with asyncio.TaskGroup() as tasks:
                    for number in range(self._partitions):
                        tasks.create_task(self._consume(source, group, number, take))
            except BaseExceptionGroup as failed:
                raise failed.exceptions[0] from None
        raise AssertionError("partitions are consumed until the task is cancelled")

    async def _publish(self, source: str, event: Event) -> None:
        fields = {**headers(event), "Nats-Msg-Id": event.event_id}
        # The client looks at the payload alone; the server at headers too, and then hangs up.
        size, most = len(event.payload) + _size(fields), self._connection.max_payload
        if size > most:
            if not self._connection.is_connected:
                raise BusError(self._name, "does not answer")  # the next server may allow more
            raise EventRefused(self._name, event, f"{size} bytes are more than max_payload, {most}")
        try:
            await self._jetstream.publish(
                _subject(source, partition(event, self._partitions)),
                event.payload,
                timeout=PUBLISH_SECONDS,
                headers=fields,
            )
        except APIError as error:
            if error.err_code == TOO_LARGE_FOR_STREAM:
                cause = f"{size} bytes are more than the stream's max_msg_size"
                raise EventRefused(self._name, event, cause) from error
            raise

    async def _consume(self, source: str, group: str, number: int, take: Take) -> None:
        subscription = await self._jetstream.pull_subscribe(
            _subject(source, number),
            durable=f"{word(group)}-{number}",
            stream=_stream(source),
            config=ConsumerConfig(ack_wait=ACK_SECONDS, max_ack_pending=1),
        )
        try:
            while not _cancelled():
                with suppress(NatsTimeout):
                    for message in await subscription.fetch(1, timeout=FETCH_SECONDS):
                        await self._handle(source, group, message, take)
            raise asyncio.CancelledError
        finally:
            with suppress(Error, OSError):
                await subscription.unsubscribe()

    async def _handle(self, source: str, group: str, message: Any, take: Take) -> None:
        """Acknowledge what was taken, or put aside; given up, it is anybody's at once."""
        try:
            fields = {k: v for k, v in (message.headers or {}).items() if not k.startswith("Nats-")}
            event = opened(fields, message.data)
        except Unreadable as error:
            logger.warning("a message of %s is put to the dead: %s", message.subject, error)
            await self._jetstream.publish(
                f"dead.{word(source)}.{word(group)}",
                message.data,
                timeout=PUBLISH_SECONDS,
                headers={**fields, "cause": str(error)},
            )
        else:
            async with _kept(message):
                if _cancelled():
                    raise asyncio.CancelledError
                await hold(take, lambda: [event], what=message.subject, rng=self._rng)
        await message.ack()

    async def _ensure(self, source: str) -> None:
        """Have a stream for this source."""
        if source in self._streams:
            return
        config = StreamConfig(
            name=_stream(source),
            subjects=[f"events.{word(source)}.*", f"dead.{word(source)}.*"],
            max_age=RETENTION_SECONDS,
            duplicate_window=DUPLICATE_SECONDS,
        )
        with self._translated():
            await self._jetstream.add_stream(config)
        self._streams.add(source)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (Error, OSError) as error:
            raise BusError(self._name, str(error).strip() or "does not answer") from error


@asynccontextmanager
async def _kept(message: Any) -> AsyncIterator[None]:
    """Keep the message for as long as the block takes."""

    async def keep() -> None:
        while True:
            await asyncio.sleep(ACK_SECONDS / 3)
            with suppress(Error, OSError):
                await message.in_progress()

    keeping = asyncio.create_task(keep())
    try:
        yield
    except BaseException:
        with suppress(Error, OSError):
            await message.nak()
        raise
    finally:
        keeping.cancel()


def _cancelled() -> bool:
    """
    Whether this task was told to stop, also when nobody raised it.

    Before Python 3.12 asyncio.wait_for, by which the client waits for a message, swallows a
    cancellation that comes in the moment of the message.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _heard(error: Exception) -> None:
    """Trouble with the connection is told by the calls that meet it."""


def _size(fields: dict[str, str]) -> int:
    """How many bytes the headers are on the wire: NATS/1.0, a line each, and an empty one."""
    return 12 + sum(len(name) + len(value) + 4 for name, value in fields.items())


def _subject(source: str, number: int) -> str:
    return f"events.{word(source)}.{number}"


def _stream(source: str) -> str:
    return f"events-{word(source)}"
