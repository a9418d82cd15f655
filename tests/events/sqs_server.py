"""
SNS and SQS by moto (sqs_moto.py), behind a door of ours.

moto keeps everything in memory: killed, it would have lost what it had.  So what is killed here is
the way to it: all connections are cut, and none is taken until it is back.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from aiobotocore.session import get_session

from mesh.events.envelope import word
from scripts.stage.preflight import free_port
from tests.events.brokers import Program

REGION = "eu-central-1"
# What AWS's tools look for; moto takes any.
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


def make(sort: str, directory: Path) -> Moto:
    os.environ.update(KEYS)
    return Moto(directory)


class Moto:
    def __init__(self, directory: Path) -> None:
        port, self._port = free_port(), free_port()
        script = Path(__file__).with_name("sqs_moto.py")
        self._program = Program([sys.executable, str(script), str(port)], directory, port, {})
        self._door = Door(self._port, port)
        self._endpoint = f"http://127.0.0.1:{self._port}"
        self.url = f"sqs://{REGION}?endpoint={self._endpoint}"
        self._running = False

    async def start(self) -> None:
        if not self._running:
            await self._program.start()
            self._running = True
        await self._door.open()

    async def kill(self) -> None:
        await self._door.close()

    async def stop(self) -> None:
        await self._door.close()
        await self._program.kill()

    async def prepare(self, *topics: str) -> None:
        """The adapter makes topics and queues."""

    async def put(self, source: str, topic: str, payload: bytes) -> None:
        name = f"events-{word(source)}.fifo"
        async with self._client("sns") as sns:
            made = await sns.create_topic(Name=name, Attributes={"FifoTopic": "true"})
            await sns.publish(
                TopicArn=made["TopicArn"],
                Message=payload.decode(),
                MessageGroupId="any",
                MessageDeduplicationId="any",
            )

    async def dead(self, source: str, group: str, topic: str) -> tuple[bytes, str]:
        name = f"events-{word(source)}-{word(group)}-dead.fifo"
        async with self._client("sqs") as sqs:
            queue = (await sqs.get_queue_url(QueueName=name))["QueueUrl"]
            told = await sqs.receive_message(
                QueueUrl=queue, WaitTimeSeconds=10, MessageAttributeNames=["All"]
            )
            (message,) = told["Messages"]
            cause = message["MessageAttributes"]["cause"]["StringValue"]
            return message["Body"].encode(), cause

    def _client(self, name: str):
        return get_session().create_client(name, region_name=REGION, endpoint_url=self._endpoint)


class Door:
    """Passes connections on from one port to another, while it is open."""

    def __init__(self, port: int, behind: int) -> None:
        self._port, self._behind = port, behind
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self._port)

    async def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
            for writer in self._writers:
                writer.transport.abort()
            await server.wait_closed()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._behind)
        ends = {writer, inner_writer}
        self._writers |= ends
        try:
            await asyncio.gather(
                _copy(reader, inner_writer), _copy(inner_reader, writer), return_exceptions=True
            )
        finally:
            self._writers -= ends
            for each in ends:
                each.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
