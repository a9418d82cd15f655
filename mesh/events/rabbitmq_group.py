"""
A member of a group on RabbitMQ: how any number of consumers share queues that have one each.

    look:  members = consumers on the roster      share = queues / members, rounded up
           more than the share  -> give some back     (close their channel)
           a queue without one  -> claim it, up to the share

A claim is an exclusive queue, which one connection can have and which ends with it.  The looks only
spread the queues: as each has a single active consumer, its messages are handled in order whoever
handles them.  A channel is one queue's: closing it ends the consumer and gives back what it had not
acknowledged in one step, in order and before what follows, so nothing is overtaken.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from random import Random
from typing import NoReturn

from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aiormq.exceptions import ChannelLockedResource

from mesh.events.bus import Take
from mesh.events.envelope import Unreadable, opened
from mesh.events.event import Event
from mesh.events.taking import hold

logger = logging.getLogger("mesh.events")

# Between two looks at who has what, in seconds.
LOOK_SECONDS = 1.0
# Closing a channel takes no longer, in seconds: else the connection is given up.
CLOSE_SECONDS = 3.0
# Messages of one queue that are on their way or being taken in; as many are taken in at once.
PREFETCH = 100


class Member:
    """One consumer of these queues, on a connection of its own; it is gone when that is lost."""

    def __init__(
        self,
        connection: AbstractConnection,
        roster: str,
        queues: Sequence[str],
        take: Take,
        *,
        rng: Random,
    ) -> None:
        self._connection = connection
        self._roster = roster
        self._queues = queues
        self._take = take
        self._rng = rng
        self._held: dict[str, tuple[AbstractChannel, asyncio.Task[None]]] = {}

    async def run(self) -> NoReturn:
        """Take what is this member's of the queues, until the connection or the task ends."""
        try:
            # Channels of a member that leaves end with its connection: an answer that nobody waits
            # for any more would stand in the way of closing them one by one.
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._until_lost())
                channel = await self._connection.channel()
                roster = await channel.declare_queue(self._roster, durable=True, auto_delete=True)
                await roster.consume(_nothing, no_ack=True)
                while True:
                    await self._look(channel, tasks)
                    await asyncio.sleep(LOOK_SECONDS * self._rng.uniform(0.8, 1.2))
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        raise AssertionError("a member takes until its task is cancelled")

    async def _until_lost(self) -> None:
        """Fail when the connection does: who asks it for a channel then is never answered."""
        lost = asyncio.Event()
        self._connection.close_callbacks.add(lambda *_: lost.set())
        await lost.wait()
        raise ConnectionError("the connection was lost")

    async def _look(self, channel: AbstractChannel, tasks: asyncio.TaskGroup) -> None:
        members = max(1, await _consumers(channel, self._roster))
        share = -(-len(self._queues) // members)
        consumers = {queue: await _consumers(channel, queue) for queue in self._queues}
        # One that has no consumer any more was deleted, and is there again.
        lost = [queue for queue in self._held if consumers[queue] == 0]
        spare = [queue for queue in self._held if queue not in lost][share:]
        await self._give_back(channel, *lost, *spare)
        free = [queue for queue in self._queues if consumers[queue] == 0]
        self._rng.shuffle(free)
        for queue in free[: max(0, share - len(self._held))]:
            if (claimed := await self._claim(queue)) is not None:
                consuming = tasks.create_task(self._consume(queue, claimed))
                self._held[queue] = (claimed, consuming)

    async def _claim(self, queue: str) -> AbstractChannel | None:
        """A channel for the queue that is ours now; None when it is another's."""
        channel = await self._connection.channel()
        try:
            await channel.declare_queue(_claim(queue), exclusive=True)
        except ChannelLockedResource:
            return None
        return channel

    async def _give_back(self, control: AbstractChannel, *queues: str) -> None:
        for queue in queues:
            channel, consuming = self._held.pop(queue)
            consuming.cancel()
            await asyncio.wait({consuming})
            async with asyncio.timeout(CLOSE_SECONDS):
                await channel.close()
                await control.queue_delete(_claim(queue))

    async def _consume(self, queue: str, channel: AbstractChannel) -> None:
        """Take in what one queue holds, in order, until this is cancelled or fails."""
        arrived: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()
        channel.close_callbacks.add(lambda *_: arrived.put_nowait(None))
        await channel.set_qos(PREFETCH)
        await (await channel.get_queue(queue)).consume(arrived.put)
        while batch := await _batch(arrived):
            await self._handle(queue, batch)
        raise ConnectionError(f"the channel of {queue} was closed")

    async def _handle(self, queue: str, batch: list[AbstractIncomingMessage]) -> None:
        """What is no event is rejected, and so goes to the dead; the rest is taken in."""
        events: list[Event] = []
        for message in batch:
            fields = {name: str(value) for name, value in message.headers.items()}
            try:
                events.append(opened(fields, message.body))
            except Unreadable as error:
                logger.warning("a message of %s is put to the dead: %s", queue, error)
                await message.reject(requeue=False)
        if events:
            await hold(self._take, lambda: events, what=queue, rng=self._rng)
            await [message for message in batch if not message.processed][-1].ack(multiple=True)


async def _batch(
    arrived: asyncio.Queue[AbstractIncomingMessage | None],
) -> list[AbstractIncomingMessage]:
    """What has arrived, at least one message; none when the channel was closed."""
    batch: list[AbstractIncomingMessage] = []
    message = await arrived.get()
    while message is not None:
        batch.append(message)
        if arrived.empty():
            return batch
        message = arrived.get_nowait()
    return []


def _claim(queue: str) -> str:
    return f"{queue}.claim"


async def _consumers(channel: AbstractChannel, queue: str) -> int:
    declared = await channel.declare_queue(queue, passive=True)
    return declared.declaration_result.consumer_count or 0


async def _nothing(message: AbstractIncomingMessage) -> None:
    """Nobody sends anything to a roster."""
