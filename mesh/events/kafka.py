"""
Kafka as a bus: a topic is an aggregate, a key an aggregate's id.

    publish -> librdkafka's queue -> leader, and all replicas in sync -> the message's future
                  ^ one thread polls, and hands what was delivered to the event loop

The producer is idempotent: what it sends again itself is in the log once.  An event is sent when
the one before it of its aggregate was acknowledged, as the producer gives up messages one by one
and would let a later one pass.  A header names the source, for topics that several sources share.
Where we may not make topics they have to be there.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, NoReturn, Self
from urllib.parse import parse_qsl

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from mesh.events.bus import CONNECT_SECONDS, RETENTION_SECONDS, BusError, EventRefused, Take
from mesh.events.envelope import headers, word
from mesh.events.event import Event
from mesh.events.kafka_group import Member
from mesh.events.lanes import in_lanes
from mesh.events.url import without_password

PARTITIONS = 8
# A message that isn't acknowledged for this long is given up, in seconds.
PUBLISH_SECONDS = 3.0
# The producer's queue is full: how soon it is looked at again, in seconds.
FULL_SECONDS = 0.01
# How long the poll thread waits for something to tell, in seconds; closing takes as long.
POLL_SECONDS = 0.1

# What the promises of a bus rest on is nobody's to set.
_OURS = {
    "acks",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "group.id",
    "message.timeout.ms",
}


class KafkaBus:
    """A Bus on kafka://host:port,host:port[?<librdkafka property>=<value>&...]."""

    def __init__(
        self, url: str, *, partitions: int = PARTITIONS, rng: Random | None = None
    ) -> None:
        servers, _, query = url.removeprefix("kafka://").partition("?")
        settings = dict(parse_qsl(query, strict_parsing=True)) if query else {}
        if ours := sorted(_OURS & settings.keys()):
            raise ValueError(f"{ours[0]} is not to be set")
        self._name = without_password(f"kafka://{servers}")
        self._settings: dict[str, Any] = {
            "bootstrap.servers": servers.rstrip("/"),
            "log_level": 0,  # what matters is raised
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,
            **settings,
        }
        self._partitions = partitions
        self._rng = rng or Random()
        self._topics: set[str] = set()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        with self._translated():
            self._producer = self._make()
            # Topics are looked for by name, and looking must not make them as the broker likes.
            self._admin = AdminClient({**self._settings, "allow.auto.create.topics": False})
            await asyncio.to_thread(self._admin.list_topics, timeout=CONNECT_SECONDS)
        self._closing = threading.Event()
        self._poll = threading.Thread(target=self._tell, name="kafka-poll", daemon=True)
        self._poll.start()
        return self

    async def __aexit__(self, *reason: object) -> None:
        self._closing.set()
        await asyncio.to_thread(self._poll.join)
        self._producer.purge()

    async def declare(self, source: str, group: str, topics: Sequence[str]) -> None:
        if not topics:
            raise ValueError(f"a topic is an aggregate: name those of {source} that {group} wants")
        for topic in topics:
            await self._ensure(_topic(topic))

    async def publish(self, source: str, events: Sequence[Event]) -> None:
        for topic in {_topic(event.aggregate) for event in events}:
            await self._ensure(topic)
        with self._translated():
            await in_lanes(events, lambda event: self._send(source, event))

    async def consume(self, source: str, group: str, topics: Sequence[str], take: Take) -> NoReturn:
        await self.declare(source, group, topics)
        # A group of its own for each source: members of one group want the same of a topic.
        settings = {**self._settings, "group.id": f"{word(group)}.{word(source)}"}
        names = [_topic(topic) for topic in topics]
        with self._translated():
            member = Member(settings, word(source), names, take, self._put_aside, rng=self._rng)
            await member.run()

    async def _send(self, source: str, event: Event) -> None:
        fields = {**headers(event), "source": word(source)}
        topic, key = _topic(event.aggregate), event.aggregate_id.encode()
        try:
            await self._produce(topic, key, event.payload, fields)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                raise EventRefused(self._name, event, _said(error)) from error
            raise

    async def _put_aside(self, topic: str, message: Any, cause: str) -> None:
        """Keep a message that is no event in the group's topic of the dead, with its cause."""
        await self._ensure(topic)
        fields = {**dict(message.headers() or []), "cause": cause, "topic": message.topic()}
        with self._translated():
            await self._produce(topic, message.key(), message.value(), fields)

    async def _produce(
        self, topic: str, key: bytes | None, value: bytes | None, fields: dict[str, Any]
    ) -> None:
        """Have a message acknowledged by all replicas in sync."""
        acknowledged: asyncio.Future[None] = self._loop.create_future()

        def told(error: KafkaError | None, _: object) -> None:
            self._loop.call_soon_threadsafe(_settle, acknowledged, error)

        while True:
            try:
                self._producer.produce(topic, value, key, headers=fields, on_delivery=told)
            except BufferError:
                await asyncio.sleep(FULL_SECONDS)
            else:
                break
        try:
            await acknowledged
        except KafkaException as error:
            if error.args[0].fatal():
                # "the producer instance must be recreated" - librdkafka on idempotent producers
                self._producer = self._make()
            raise

    def _make(self) -> Producer:
        return Producer(
            {
                "linger.ms": 1,
                **self._settings,
                "enable.idempotence": True,
                "acks": "all",
                "message.timeout.ms": int(PUBLISH_SECONDS * 1000),
            }
        )

    def _tell(self) -> None:
        """In the poll thread: run what waits for deliveries."""
        while not self._closing.is_set():
            self._producer.poll(POLL_SECONDS)

    async def _ensure(self, topic: str) -> None:
        """Have the topic, with as many partitions as the members of a group may be."""
        if topic in self._topics:
            return
        with self._translated():
            if not await asyncio.to_thread(self._exists, topic):
                wanted = NewTopic(
                    topic,
                    self._partitions,
                    config={"retention.ms": str(int(RETENTION_SECONDS * 1000))},
                )
                (made,) = self._admin.create_topics(
                    [wanted], request_timeout=CONNECT_SECONDS
                ).values()
                try:
                    await asyncio.wrap_future(made)
                except KafkaException as error:
                    if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                        raise
        self._topics.add(topic)

    def _exists(self, topic: str) -> bool:
        found = self._admin.list_topics(topic, timeout=CONNECT_SECONDS).topics[topic]
        if found.error is None:
            return True
        if found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return False
        raise KafkaException(found.error)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except KafkaException as error:
            raise BusError(self._name, _said(error)) from error


def _topic(aggregate: str) -> str:
    """The aggregate's name, as it is unless Kafka would not have it."""
    return word(aggregate, "._")


def _settle(acknowledged: asyncio.Future[None], error: KafkaError | None) -> None:
    if acknowledged.done():
        return
    if error is None:
        acknowledged.set_result(None)
    else:
        acknowledged.set_exception(KafkaException(error))


def _said(error: KafkaException) -> str:
    told = error.args[0] if error.args else error
    return told.str() if isinstance(told, KafkaError) else str(told)
