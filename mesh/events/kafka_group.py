"""
A member of a consumer group on Kafka: offsets are committed when the inbox has the events.

    poll -> batch -> take ----done----> commit, of the partitions that are still ours
                      | takes long
                      v
             paused, and polled on: heartbeats go out, partitions come and go

Kafka's own thread hands partitions out and takes them away inside our polls only.  A partition that
is taken away while its events are being taken in is not committed: its next owner is given them
again and the inbox knows them.  All of librdkafka's blocking calls run on one thread of the member.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any, NoReturn

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from mesh.events.bus import Take
from mesh.events.envelope import Unreadable, opened
from mesh.events.event import Event
from mesh.events.taking import hold

logger = logging.getLogger("mesh.events")

# Messages taken in at once, and how long a poll waits for the first of them, in seconds.
BATCH = 100
POLL_SECONDS = 0.2
# A member that was not heard of for this long is out, in seconds; leaving is told at once.  Members
# learn of those who come and go by their heartbeats.
SESSION_SECONDS = 10.0
HEARTBEAT_SECONDS = 1.0
# A batch that takes longer has the partitions paused meanwhile, in seconds.  Pausing throws away
# what was fetched ahead, so it is not done for every batch.
PAUSE_SECONDS = 1.0

Place = tuple[str, int]
PutAside = Callable[[str, Any, str], Awaitable[None]]

# The broker's word for: these partitions are no longer yours.
_NOT_OURS = (
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError._ASSIGNMENT_LOST,  # noqa: SLF001 - librdkafka's own errors are named so
)


class Member:
    """One member of a group, for as long as it runs."""

    def __init__(
        self,
        settings: dict[str, Any],
        source: str,
        topics: Sequence[str],
        take: Take,
        put_aside: PutAside,
        *,
        rng: Random,
    ) -> None:
        self._consumer = Consumer(
            {
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": int(SESSION_SECONDS * 1000),
                "heartbeat.interval.ms": int(HEARTBEAT_SECONDS * 1000),
                "topic.metadata.refresh.interval.ms": 10_000,
                **settings,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
            }
        )
        self._group = settings["group.id"]
        self._source = source
        self._topics = list(topics)
        self._take = take
        self._put_aside = put_aside
        self._rng = rng
        self._owned: set[Place] = set()
        self._paused = False
        self._thread = ThreadPoolExecutor(1, "kafka-member")

    async def run(self) -> NoReturn:
        """Take what is this member's, until the task is cancelled or Kafka gives it up."""
        try:
            await self._on_thread(self._subscribe)
            while True:
                if batch := await self._on_thread(self._fetch):
                    await self._handle(batch)
        finally:
            # Also when cancelled: who leaves says so, and the others need not wait for a timeout.
            self._thread.submit(self._consumer.close)
            await asyncio.shield(asyncio.to_thread(self._thread.shutdown))
        raise AssertionError("a member takes until its task is cancelled")

    async def _handle(self, batch: list[Any]) -> None:
        """Take a batch in and commit it, less what is taken away meanwhile."""
        events = await self._read(batch)
        taking = asyncio.create_task(
            hold(
                self._take,
                lambda: [event for place, event in events if place in self._owned],
                what=f"what {self._group} was given",
                rng=self._rng,
            )
        )
        try:
            await asyncio.wait({taking}, timeout=PAUSE_SECONDS)
            while not taking.done():
                await self._on_thread(self._stay)
            await taking
        finally:
            taking.cancel()
            await asyncio.wait({taking})
        await self._on_thread(self._commit, batch)

    async def _read(self, batch: list[Any]) -> list[tuple[Place, Event]]:
        """The source's events; what has no source is another's, what can't be read is put aside."""
        events = []
        for message in batch:
            fields = {name: value.decode("latin-1") for name, value in message.headers() or ()}
            if fields.get("source") != self._source:
                if "source" in fields:
                    continue
                cause = "no header 'source'"
            else:
                try:
                    events.append((_place(message), opened(fields, message.value() or b"")))
                    continue
                except Unreadable as error:
                    cause = str(error)
            dead = f"{message.topic()}.{self._group}.dead"
            logger.warning("a message of %s is put to %s: %s", message.topic(), dead, cause)
            await self._put_aside(dead, message, cause)
        return events

    async def _on_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, work, *arguments)

    # What follows runs on the member's thread.

    def _subscribe(self) -> None:
        self._consumer.subscribe(
            self._topics, on_assign=self._given, on_revoke=self._taken, on_lost=self._taken
        )

    def _fetch(self) -> list[Any]:
        """What is there, or the first that comes: consume alone would wait for a whole batch."""
        if self._paused:
            self._consumer.resume(self._consumer.assignment())
            self._paused = False
        first = self._consumer.poll(POLL_SECONDS)
        if first is None:
            return []
        batch = [first, *self._consumer.consume(BATCH - 1, 0.0)]
        return [message for message in batch if _is_message(message)]

    def _stay(self) -> None:
        """Stay in the group, and be given nothing more for now."""
        if not self._paused:
            self._consumer.pause(self._consumer.assignment())
            self._paused = True
        message: Any = self._consumer.poll(POLL_SECONDS)
        if message is not None and _is_message(message):
            # It was on its way: back to it when its turn comes.
            self._consumer.seek(TopicPartition(*_place(message), message.offset()))

    def _commit(self, batch: list[Any]) -> None:
        next_ = {
            _place(message): message.offset() + 1
            for message in batch
            if _place(message) in self._owned
        }
        if not next_:
            return
        offsets = [TopicPartition(*place, offset) for place, offset in next_.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() not in _NOT_OURS:
                raise
            logger.info("%s lost partitions that it had taken in: %s", self._group, error)

    def _given(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._owned |= {(place.topic, place.partition) for place in places}
        if self._paused:
            # They are not assigned before this returns: the next poll pauses them.
            self._paused = False

    def _taken(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._owned -= {(place.topic, place.partition) for place in places}


def _place(message: Any) -> Place:
    return message.topic(), message.partition()


def _is_message(message: Any) -> bool:
    """Whether this is a message; raises what is an error that does not pass by itself."""
    error = message.error()
    if error is None:
        return True
    if error.fatal() or not (error.retriable() or error.code() in _PASSING):
        raise KafkaException(error)
    return False


_PASSING = (
    KafkaError._PARTITION_EOF,  # noqa: SLF001
    KafkaError._TRANSPORT,  # noqa: SLF001
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    KafkaError._RESOLVE,  # noqa: SLF001
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)
