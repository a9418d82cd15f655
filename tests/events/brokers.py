"""Real brokers for the tests of buses: on loopback, each with a directory and bounds of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Protocol

import pytest

from mesh.events.bus import Bus
from mesh.events.url import connect

START_SECONDS = 60.0

# By sort: the module of its class here, and the client that it takes.
SORTS = {
    "nats": ("nats_server", "nats"),
    "rabbitmq": ("rabbitmq_server", "aio_pika"),
    "kafka": ("kafka_servers", "confluent_kafka"),
    "apache": ("kafka_servers", "confluent_kafka"),
    "sqs": ("sqs_server", "aiobotocore"),
}
APACHE = pytest.param("apache", marks=pytest.mark.slow)
BROKERS = ["nats", "rabbitmq", "kafka", "sqs", APACHE]
# For what takes moto long, or SQS: what a killed member was given is another's after 30 s.
PATIENT = ["nats", "rabbitmq", "kafka", pytest.param("sqs", marks=pytest.mark.slow), APACHE]


class Broker(Protocol):
    """A broker that can be taken away, and comes back with what it had."""

    url: str

    async def start(self) -> None: ...

    async def kill(self) -> None:
        """kill -9 where it keeps things in files; else all its connections are cut and refused."""

    async def stop(self) -> None: ...

    async def prepare(self, *topics: str) -> None:
        """Make topics where the adapter can't."""

    async def put(self, source: str, topic: str, payload: bytes) -> None:
        """Have a message that is no event come to the groups of this source and topic."""

    async def dead(self, source: str, group: str, topic: str) -> tuple[bytes, str]:
        """The first message that was put aside, and what is said of the cause."""


@asynccontextmanager
async def started(sort: str, directory: Path) -> AsyncIterator[Broker]:
    """A broker of this sort; skips the test where it can't be had."""
    module, client = SORTS[sort]
    pytest.importorskip(client)
    broker: Broker = import_module(f"tests.events.{module}").make(sort, directory)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


class Running:
    """The brokers that this session's tests share, each started when it is first asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = AsyncExitStack()
        self._found: dict[str, Broker] = {}
        # Why there is none of this sort.
        self._missing: dict[str, str] = {}

    async def __aenter__(self) -> Running:
        return self

    async def __aexit__(self, *reason: object) -> None:
        await self._stack.aclose()

    async def get(self, sort: str) -> Broker:
        if sort in self._missing:
            pytest.skip(self._missing[sort])
        if sort not in self._found:
            directory = self._directory / sort
            directory.mkdir()
            try:
                self._found[sort] = await self._stack.enter_async_context(started(sort, directory))
            except pytest.skip.Exception as why:
                self._missing[sort] = str(why)
                raise
        return self._found[sort]


class Program:
    """A broker's process, which dies with ours and writes its log beside its data."""

    def __init__(
        self, command: list[str], directory: Path, port: int, environment: Mapping[str, str]
    ) -> None:
        self._command = command
        self._directory = directory
        self._port = port
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                mortal(self._command),
                cwd=self._directory,
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        await listening(self._port, lambda: self._process)

    async def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)


async def listening(port: int, process: Callable[[], subprocess.Popen[bytes] | None]) -> None:
    """Wait until the port is served; fails when the process ends before."""
    async with asyncio.timeout(START_SECONDS):
        while (running := process()) is not None and running.poll() is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return
    raise AssertionError("the broker ended before it listened: see its log")


def mortal(command: list[str]) -> list[str]:
    """
    The command, killed when we die.

    A program says so: code of ours between fork and exec would meet what gRPC does at a fork.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else command


def bus_of(broker: Broker) -> Bus:
    """A new connection to it, to be entered."""
    return connect(broker.url)
