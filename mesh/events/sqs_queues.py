"""
A group's queue on SQS, and a member that takes from it.

    receive <= 10 (long poll) -> take ----done----> delete
                                  | as long as it takes
                                  v
                     visibility extended: nobody else is given them, nor what follows them

A message that could not be deleted comes again, and the inbox knows it.  One that was given to many
members that died of it goes to the queue of the dead, as does what is no event, with its cause.
"""

from __future__ import annotations

import asyncio
import json
import logging
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, NoReturn

from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
)

from mesh.events.bus import Take
from mesh.events.envelope import Unreadable, opened, word
from mesh.events.event import Event
from mesh.events.taking import hold

logger = logging.getLogger("mesh.events")

# Messages received at once, and how long a receive waits for the first, in seconds: SQS's most.
BATCH = 10
WAIT_SECONDS = 20
# What a member was given is another's after this long, unless it is extended, in seconds.
VISIBILITY_SECONDS = 30
# The queue keeps what nobody takes for SQS's longest, 14 days.
KEEP_SECONDS = 14 * 24 * 3600
# A message that so many members were given and none deleted goes to the dead.
DELIVERIES = 100


async def declare_queue(sqs: Any, sns: Any, topic: str, source: str, group: str) -> str:
    """Have the group's queue, subscribed to the source's topic; answers its URL."""
    queue = await _queue(sqs, _name(source, group), {"VisibilityTimeout": str(VISIBILITY_SECONDS)})
    dead = await dead_queue(sqs, source, group)
    arn, dead_arn = await _arn(sqs, queue), await _arn(sqs, dead)
    redrive = {"deadLetterTargetArn": dead_arn, "maxReceiveCount": DELIVERIES}
    from_topic = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
    }
    policy = {"Version": "2012-10-17", "Statement": [from_topic]}
    await sqs.set_queue_attributes(
        QueueUrl=queue,
        Attributes={"RedrivePolicy": json.dumps(redrive), "Policy": json.dumps(policy)},
    )
    await sns.subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=arn,
        Attributes={"RawMessageDelivery": "true"},
        ReturnSubscriptionArn=True,
    )
    return queue


async def dead_queue(sqs: Any, source: str, group: str) -> str:
    """The URL of the queue of the group's dead."""
    return await _queue(sqs, _name(source, group, "-dead"), {})


async def _queue(sqs: Any, name: str, attributes: dict[str, str]) -> str:
    made = await sqs.create_queue(
        QueueName=name,
        Attributes={
            "FifoQueue": "true",
            "DeduplicationScope": "messageGroup",
            "FifoThroughputLimit": "perMessageGroupId",
            "MessageRetentionPeriod": str(KEEP_SECONDS),
            **attributes,
        },
    )
    return str(made["QueueUrl"])


def _name(source: str, group: str, suffix: str = "") -> str:
    return f"events-{word(source)}-{word(group)}{suffix}.fifo"


async def _arn(sqs: Any, queue: str) -> str:
    told = await sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    return str(told["Attributes"]["QueueArn"])


class Member:
    """One of those who take from a queue."""

    def __init__(self, sqs: Any, queue: str, dead: str, take: Take, *, rng: Random) -> None:
        self._sqs = sqs
        self._queue = queue
        self._dead = dead
        self._take = take
        self._rng = rng

    async def run(self) -> NoReturn:
        """Take what is received, until the task is cancelled or SQS does not answer."""
        while True:
            told = await self._sqs.receive_message(
                QueueUrl=self._queue,
                MaxNumberOfMessages=BATCH,
                WaitTimeSeconds=WAIT_SECONDS,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["MessageGroupId"],
            )
            if messages := told.get("Messages"):
                async with self._extended(messages):
                    await hold(
                        self._take,
                        partial(list, await self._read(messages)),
                        what=self._queue,
                        rng=self._rng,
                    )
                await self._delete(messages)

    async def _read(self, messages: list[Any]) -> list[Event]:
        """The events among the messages; what is none is put aside."""
        events = []
        for message in messages:
            attributes = message.get("MessageAttributes", {})
            fields = {name: each.get("StringValue", "") for name, each in attributes.items()}
            try:
                event = opened(fields, b"")
                if (body := message["Body"]) != "=":
                    event = replace(event, payload=b64decode(body, validate=True))
                events.append(event)
            except (Unreadable, ValueError) as error:
                logger.warning("a message of %s is put to the dead: %s", self._queue, error)
                await self._put_aside(message, str(error))
        return events

    async def _put_aside(self, message: Any, cause: str) -> None:
        await self._sqs.send_message(
            QueueUrl=self._dead,
            MessageBody=message["Body"],
            MessageGroupId=message["Attributes"]["MessageGroupId"],
            MessageDeduplicationId=message["MessageId"],
            MessageAttributes={"cause": {"DataType": "String", "StringValue": cause}},
        )

    @asynccontextmanager
    async def _extended(self, messages: list[Any]) -> AsyncIterator[None]:
        """Keep messages for as long as the block takes; given up, they are anybody's at once."""
        extending = asyncio.create_task(self._extend(messages))
        try:
            yield
        except BaseException:
            with suppress(BotoCoreError, ClientError, OSError):
                await asyncio.shield(self._make_visible(messages, 0))
            raise
        finally:
            extending.cancel()
            await asyncio.wait({extending})

    async def _extend(self, messages: list[Any]) -> None:
        while True:
            await asyncio.sleep(VISIBILITY_SECONDS / 3)
            try:
                await self._make_visible(messages, VISIBILITY_SECONDS)
            except (BotoCoreError, ClientError, OSError) as error:
                logger.warning("%s: messages may come again: %s", self._queue, error)

    async def _make_visible(self, messages: list[Any], seconds: int) -> None:
        told = await self._sqs.change_message_visibility_batch(
            QueueUrl=self._queue,
            Entries=[
                {"Id": str(n), "ReceiptHandle": each["ReceiptHandle"], "VisibilityTimeout": seconds}
                for n, each in enumerate(messages)
            ],
        )
        for each in told.get("Failed", []):
            logger.warning("%s: a message may come again: %s", self._queue, each["Code"])

    async def _delete(self, messages: list[Any]) -> None:
        told = await self._sqs.delete_message_batch(
            QueueUrl=self._queue,
            Entries=[
                {"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]}
                for n, each in enumerate(messages)
            ],
        )
        for each in told.get("Failed", []):
            logger.warning("%s: a message will come again: %s", self._queue, each["Code"])
