"""
SQS as a bus: an SNS FIFO topic a source, fanned out to one SQS FIFO queue for each group.

    publish -> topic <source>.fifo -> queue <source>-<group>.fifo  -> receive, take, delete
                                   -> queue <source>-<other>.fifo     -> <source>-<group>-dead.fifo

The message group is the aggregate's id: while a message of a group is on its way to a member, SQS
gives out none that follows it, so members share the work and the order is kept.  The deduplication
id is the event's: what is published again within five minutes is dropped.  A topic without a queue
would drop everything: then publishing is refused as Unheard.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from hashlib import sha256
from random import Random
from typing import Any, NoReturn, Self
from urllib.parse import parse_qsl, urlsplit

from aiobotocore.config import AioConfig  # type: ignore[import-untyped]
from aiobotocore.session import get_session  # type: ignore[import-untyped]
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
)

from mesh.events.bus import CONNECT_SECONDS, BusError, EventRefused, Take, Unheard
from mesh.events.envelope import headers, word
from mesh.events.event import Event
from mesh.events.lanes import lanes
from mesh.events.sqs_queues import Member, dead_queue, declare_queue

# What SNS takes at once: so many messages, so many bytes of bodies and attributes.
BATCH = 10
BATCH_BYTES = 256 * 1024
# A call that is answered later has failed, in seconds: longer than a receive waits for messages.
READ_SECONDS = 25.0
# What SNS says of an entry that it would never take, such as one that is too large.
INVALID = "InvalidParameter"
# Batches on their way at once.
AT_ONCE = 8


class SqsBus:
    """A Bus on sqs://<region>[?endpoint=<url>]; credentials are found as AWS's own tools do."""

    def __init__(self, url: str, *, rng: Random | None = None) -> None:
        parts = urlsplit(url)
        settings = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
        endpoint = settings.pop("endpoint", None)
        if settings:
            raise ValueError(f"{next(iter(settings))} is no setting: expected endpoint")
        if endpoint is not None and not endpoint.startswith(("http://", "https://")):
            raise ValueError(f"endpoint {endpoint!r} is no http:// or https:// URL")
        self._name = f"sqs://{parts.netloc}"
        self._where = {"region_name": parts.netloc, "endpoint_url": endpoint}
        self._rng = rng or Random()
        self._stack = AsyncExitStack()
        self._topics: dict[str, str] = {}
        self._heard: set[str] = set()

    async def __aenter__(self) -> Self:
        config = AioConfig(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 2},
            max_pool_connections=2 * AT_ONCE,
        )
        session = get_session()
        async with AsyncExitStack() as stack:
            with self._translated():
                self._sns, self._sqs = [
                    await stack.enter_async_context(
                        session.create_client(name, config=config, **self._where)
                    )
                    for name in ("sns", "sqs")
                ]
                await self._sqs.list_queues(MaxResults=1)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *reason: object) -> None:
        await self._stack.aclose()

    async def declare(self, source: str, group: str, topics: Sequence[str]) -> None:
        with self._translated():
            await declare_queue(self._sqs, self._sns, await self._topic(source), source, group)

    async def publish(self, source: str, events: Sequence[Event]) -> None:
        with self._translated():
            topic = await self._topic(source)
            await self._ensure_heard(topic, source)
            waiting = lanes(events)
            while waiting:
                # The first of each aggregate; the next ones when these are the broker's.
                await self._publish(topic, [lane[0] for lane in waiting])
                waiting = [lane[1:] for lane in waiting if lane[1:]]

    async def consume(self, source: str, group: str, topics: Sequence[str], take: Take) -> NoReturn:
        with self._translated():
            queue = await declare_queue(
                self._sqs, self._sns, await self._topic(source), source, group
            )
            dead = await dead_queue(self._sqs, source, group)
            await Member(self._sqs, queue, dead, take, rng=self._rng).run()

    async def _publish(self, topic: str, events: Sequence[Event]) -> None:
        """Publish events of different aggregates, in batches side by side."""
        places, batches = asyncio.Semaphore(AT_ONCE), list(_batches(events, self._name))

        async def send(batch: list[dict[str, Any]]) -> None:
            async with places:
                told = await self._sns.publish_batch(
                    TopicArn=topic, PublishBatchRequestEntries=batch
                )
            for each in told.get("Failed", []):
                event = events[int(each["Id"])]
                cause = f"{each['Code']} {each.get('Message', '')}".strip()
                if each.get("SenderFault") and each["Code"].startswith(INVALID):
                    raise EventRefused(self._name, event, cause)
                raise BusError(self._name, f"event {event.event_id} was refused: {cause}")

        try:
            async with asyncio.TaskGroup() as tasks:
                for batch in batches:
                    tasks.create_task(send(batch))
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _topic(self, source: str) -> str:
        if source not in self._topics:
            made = await self._sns.create_topic(
                Name=f"events-{word(source)}.fifo",
                Attributes={
                    "FifoTopic": "true",
                    "ContentBasedDeduplication": "false",
                    "FifoThroughputScope": "MessageGroup",
                },
            )
            self._topics[source] = made["TopicArn"]
        return self._topics[source]

    async def _ensure_heard(self, topic: str, source: str) -> None:
        """Refuse to publish what no queue would keep."""
        if source in self._heard:
            return
        found = await self._sns.list_subscriptions_by_topic(TopicArn=topic)
        if not found["Subscriptions"]:
            raise Unheard(self._name, source)
        self._heard.add(source)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError, OSError, TimeoutError) as error:
            raise BusError(self._name, str(error).strip() or "does not answer") from error


def _batches(events: Sequence[Event], bus: str) -> Iterator[list[dict[str, Any]]]:
    """The events in requests that SNS takes; an entry's id is its place among the events."""
    batch: list[dict[str, Any]] = []
    size = 0
    for number, event in enumerate(events):
        fields = headers(event)
        body = b64encode(event.payload).decode() or "="  # SQS knows no empty body
        length = len(body) + sum(len(name) + len(value) + 6 for name, value in fields.items())
        if length > BATCH_BYTES:
            raise EventRefused(bus, event, f"{length} bytes are more than SNS takes, {BATCH_BYTES}")
        if batch and (len(batch) == BATCH or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(
            {
                "Id": str(number),
                "Message": body,
                "MessageGroupId": _group_id(event),
                "MessageDeduplicationId": _short(event.event_id),
                "MessageAttributes": {
                    name: {"DataType": "String", "StringValue": value}
                    for name, value in fields.items()
                },
            }
        )
        size += length
    if batch:
        yield batch


def _group_id(event: Event) -> str:
    return _short(event.aggregate_id or event.aggregate)


def _short(name: str) -> str:
    """A name as SQS takes it for an id: itself, if it is short and plain, else its digest."""
    if 0 < len(name) <= 128 and name.isascii() and name.isprintable() and " " not in name:
        return name
    return sha256(name.encode()).hexdigest()
