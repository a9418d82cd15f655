"""
NATS JetStream as a bus: one stream a source, its events spread over partitions by aggregate.

    events.<source>.<partition>  ->  stream events-<source>  ->  consumer <group>-<partition>

A consumer has one message on its way at a time (max_ack_pending), so a partition is in order
whichever members fetch it, also when a message comes again.  A publication that is repeated within
the duplicate window is known by its event id.  JetStream keeps streams in files, and has written
what it acknowledged to them, which is not to say synced: a power cut can cost a single server some.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, Self

import nats
from nats.errors import Error
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import ConsumerConfig, StreamConfig

from mesh.events.bus import BusError, Take
from mesh.events.envelope import headers, opened, partition
from mesh.events.event import Event

logger = logging.getLogger("mesh.events")

PARTITIONS = 8
# The broker keeps events as long as an outbox does, and knows repeated ones for so long; seconds.
RETENTION_SECONDS = 7 * 24 * 3600.0
DUPLICATE_SECONDS = 120.0
# A message is somebody else's when it wasn't acknowledged for this long, in seconds.
ACK_SECONDS = 5.0
# What could not be taken comes again after this long, in seconds.
AGAIN_SECONDS = 0.2
# One publication, one look for messages, one way to the broker take no longer, in seconds.
PUBLISH_SECONDS = 1.0
FETCH_SECONDS = 5.0
CONNECT_SECONDS = 2.0


class NatsBus:
    """A Bus on nats://[user:password@]host[:port]."""

    def __init__(self, url: str, *, partitions: int = PARTITIONS) -> None:
        self._url = url
        self._name = re.sub(r"//[^/]*@", "//", url)
        self._partitions = partitions
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

    async def publish(self, source: str, events: Sequence[Event]) -> None:
        await self._ensure(source)
        lines: dict[int, list[Event]] = {}
        for event in events:
            lines.setdefault(partition(event, self._partitions), []).append(event)
        with self._translated():
            await asyncio.gather(*(self._publish(source, *line) for line in lines.items()))

    async def consume(self, source: str, group: str, take: Take) -> NoReturn:
        await self._ensure(source)
        with self._translated():
            try:
                async with asyncio.TaskGroup() as tasks:
                    for number in range(self._partitions):
                        tasks.create_task(self._consume(source, group, number, take))
            except BaseExceptionGroup as failed:
                raise failed.exceptions[0] from None
        raise AssertionError("partitions are consumed until the task is cancelled")

    async def _publish(self, source: str, number: int, events: Sequence[Event]) -> None:
        """One after another: none is the broker's before the one before it is."""
        for event in events:
            await self._jetstream.publish(
                _subject(source, number),
                event.payload,
                timeout=PUBLISH_SECONDS,
                headers={**headers(event), "Nats-Msg-Id": event.event_id},
            )

    async def _consume(self, source: str, group: str, number: int, take: Take) -> None:
        subscription = await self._jetstream.pull_subscribe(
            _subject(source, number),
            durable=f"{_word(group)}-{number}",
            stream=_stream(source),
            config=ConsumerConfig(ack_wait=ACK_SECONDS, max_ack_pending=1),
        )
        try:
            while True:
                with suppress(NatsTimeout):
                    for message in await subscription.fetch(1, timeout=FETCH_SECONDS):
                        await _handle(message, take)
        finally:
            with suppress(Error, OSError):
                await subscription.unsubscribe()

    async def _ensure(self, source: str) -> None:
        """Have a stream for this source."""
        if source in self._streams:
            return
        config = StreamConfig(
            name=_stream(source),
            subjects=[f"events.{_word(source)}.*"],
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


async def _handle(message: Any, take: Take) -> None:
    """Acknowledge what was taken; have what was not come again, before what follows it."""
    try:
        await take([opened(message.headers, message.data)])
    except Exception as error:  # noqa: BLE001 - whatever it is, the message comes again
        logger.warning("%s comes again: %s", message.subject, error)
        await message.nak(delay=AGAIN_SECONDS)
    except BaseException:
        with suppress(Error, OSError):
            await message.nak()
        raise
    else:
        await message.ack()


async def _heard(error: Exception) -> None:
    """Trouble with the connection is told by the calls that meet it."""


def _subject(source: str, number: int) -> str:
    return f"events.{_word(source)}.{number}"


def _stream(source: str) -> str:
    return f"events-{_word(source)}"


def _word(name: str) -> str:
    """A name as NATS allows it in subjects and names of streams and consumers."""
    return "".join(
        c if c.isascii() and (c.isalnum() or c in "-_") else f"={ord(c):x}=" for c in name
    )
