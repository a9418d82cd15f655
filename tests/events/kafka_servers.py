"""Kafka: librdkafka's mock cluster in a process, or a real broker of Apache's in KRaft mode."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from mesh.events.envelope import word
from scripts import parts
from scripts.stage.preflight import free_port
from tests.events.brokers import Program, mortal

HEAP = "-Xmx256m"
JAVA = ["java", HEAP, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]


def make(sort: str, directory: Path) -> Kafka:
    if sort == "kafka":
        return Mock()
    libraries = parts.find("kafka")
    if libraries is None or shutil.which("java") is None:
        pytest.skip("no Apache Kafka: it takes java, and scripts/parts kafka fetches it")
    return Apache(libraries, directory)


class Kafka:
    servers: str
    url: str

    async def put(self, source: str, topic: str, payload: bytes) -> None:
        def produce() -> None:
            producer = Producer({"bootstrap.servers": self.servers, "log_level": 0})
            producer.produce(topic, payload)
            assert producer.flush(10) == 0

        await asyncio.to_thread(produce)

    async def dead(self, source: str, group: str, topic: str) -> tuple[bytes, str]:
        def consume() -> tuple[bytes, str]:
            told: dict[str, Any] = {"bootstrap.servers": self.servers, "group.id": "operator"}
            consumer = Consumer({**told, "auto.offset.reset": "earliest", "log_level": 0})
            consumer.subscribe([f"{topic}.{group}.{word(source)}.dead"])
            try:
                message = consumer.poll(20)
                assert message is not None
                assert message.error() is None
                return message.value(), dict(message.headers())["cause"].decode()
            finally:
                consumer.close()

        return await asyncio.to_thread(consume)


class Mock(Kafka):
    """In memory: killed, it would have lost what it had; so its broker goes down and up instead."""

    async def start(self) -> None:
        if self._child is not None:
            return await self._command("up")
        self._child = subprocess.Popen(
            mortal([sys.executable, str(Path(__file__).with_name("kafka_mock.py"))]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        # It has those who stay wait for the session of one who left to end.
        quick = "session.timeout.ms=2000&heartbeat.interval.ms=300"
        self.servers = (await self._answer()).strip()
        self.url = f"kafka://{self.servers}?{quick}"
        return None

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None

    async def kill(self) -> None:
        await self._command("down")

    async def stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            await asyncio.to_thread(child.communicate)

    async def prepare(self, *topics: str) -> None:
        """The mock can't be asked for topics by an admin client."""
        for topic in topics:
            await self._command(f"topic {topic}")

    async def _command(self, line: str) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        print(line, file=self._child.stdin, flush=True)
        assert await self._answer() == "0\n"

    async def _answer(self) -> str:
        assert self._child is not None
        assert self._child.stdout is not None
        async with asyncio.timeout(20):
            return await asyncio.to_thread(self._child.stdout.readline)


class Apache(Kafka):
    """One node that is broker and controller, with a heap of 256 MB."""

    def __init__(self, libraries: Path, directory: Path) -> None:
        self._directory = directory
        port, controller = free_port(), free_port()
        self._settings = directory / "server.properties"
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": directory / "data",
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": 0,
            "offsets.topic.num.partitions": 4,
            "offsets.topic.replication.factor": 1,
            "num.network.threads": 2,
            "num.io.threads": 2,
        }
        self._settings.write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
        self._java = [*JAVA, "-cp", f"{libraries}/*"]
        command = [*self._java, "kafka.Kafka", str(self._settings)]
        self._program = Program(command, directory, port, {})
        self.servers = f"127.0.0.1:{port}"
        self.url = f"kafka://{self.servers}"
        self.kill = self.stop = self._program.kill

    async def start(self) -> None:
        if not (self._directory / "data").exists():
            tool = ["kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAA"]
            await asyncio.to_thread(
                subprocess.run,
                [*self._java, *tool, "-c", str(self._settings)],
                env=os.environ,
                capture_output=True,
                timeout=60,
                check=True,
            )
        await self._program.start()

    async def prepare(self, *topics: str) -> None:
        """The adapter makes topics."""
