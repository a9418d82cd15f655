"""
How soon a watcher hears of a change: the embedded agent and the real Consul, in one run.

wire    PUT /v1/agent/check/fail (or pass) sent -> the blocked health query is answered whole;
        two raw connections and no event loop, so that the client adds next to nothing
watch   the same change -> the snapshot of discovery's own watch, and how long after the agent's
        answer had arrived: a relay between the two stamps it

Blocks of changes alternate between the agents.  Where the host lets us, agents and client run at
real-time priority, so that other work on the machine is not measured.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from typing import cast

from discovery import Snapshot, connect
from scripts import parts
from scripts.measuring.agents import Agent, consul, embedded

BLOCKS = 8
CHANGES = 50  # a block
WATCHED = 100
PAUSE_SECONDS = 0.01
PRIORITY = 5
NAME = "orders"
Findings = dict[str, float]


class Wire:
    """One HTTP/1.1 connection, a request at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10.0)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, method: str, path: str) -> None:
        self._socket.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: agent\r\nContent-Length: 0\r\n\r\n".encode()
        )

    def answered(self) -> int:
        """Read one answer to its end; its index."""
        found = b""
        while b"\r\n\r\n" not in found:
            found += self._more()
        head, _, body = found.partition(b"\r\n\r\n")
        lines = (line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        headers = {name.lower(): value for name, value in lines}
        if b"transfer-encoding" in headers:
            while not body.endswith(b"0\r\n\r\n"):
                body += self._more()
        while len(body) < int(headers.get(b"content-length", b"0")):
            body += self._more()
        return int(headers.get(b"x-consul-index", b"0"))

    def _more(self) -> bytes:
        found = self._socket.recv(65536)
        if not found:
            raise ConnectionError("the agent closed the connection")
        return found

    def close(self) -> None:
        self._socket.close()


@contextmanager
def wires(port: int) -> Iterator[tuple[Wire, Wire]]:
    watching, writing = Wire(port), Wire(port)
    try:
        yield watching, writing
    finally:
        watching.close()
        writing.close()


def block(port: int, changes: int = CHANGES) -> list[float]:
    """Seconds from each change until the watcher had the whole answer."""
    delays, path = [], f"/v1/health/service/{NAME}"
    with wires(port) as (watching, writing):
        watching.ask("GET", path)
        index = watching.answered()
        for number in range(changes):
            watching.ask("GET", f"{path}?index={index}&wait=30s")
            time.sleep(PAUSE_SECONDS)  # so that the query blocks, as in life
            begun = time.perf_counter()
            writing.ask("PUT", f"/v1/agent/check/{('fail', 'pass')[number % 2]}/service:{NAME}-0")
            index = watching.answered()
            delays.append(time.perf_counter() - begun)
            writing.answered()
    return delays


class Relay(asyncio.Protocol):
    """Carries bytes one way; `arrived` is when the last of them came."""

    def __init__(self) -> None:
        self.arrived = 0.0
        self.to: asyncio.WriteTransport | None = None

    def data_received(self, data: bytes) -> None:
        self.arrived = time.perf_counter()
        if self.to is not None:
            self.to.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.to is not None:
            self.to.close()


@asynccontextmanager
async def relayed(port: int) -> AsyncIterator[tuple[int, list[Relay]]]:
    """A port that leads to `port`, and what the agent's side of each connection has seen."""
    loop = asyncio.get_running_loop()
    answers: list[Relay] = []

    class Client(Relay):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.pause_reading()
            self._joining = loop.create_task(self._join(transport))

        async def _join(self, transport: asyncio.Transport) -> None:
            agent, answer = await loop.create_connection(Relay, "127.0.0.1", port)
            self.to, answer.to = agent, transport
            answers.append(answer)
            transport.resume_reading()

    server = await loop.create_server(Client, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], answers
    finally:
        server.close()
        for answer in answers:
            if answer.to is not None:
                answer.to.abort()


async def watched(agent: Agent, changes: int = WATCHED) -> tuple[list[float], list[float]]:
    """Seconds from each change to the snapshot, and from the agent's answer to it."""
    whole, after = [], []
    async with (
        relayed(agent.port) as (port, answers),
        connect(f"consul://127.0.0.1:{port}") as registry,
        aclosing(cast(AsyncGenerator[Snapshot, None], registry.watch(NAME))) as watch,
    ):
        await anext(watch)
        for number in range(changes):
            seen = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(2 * PAUSE_SECONDS)
            begun = time.perf_counter()
            path = f"/v1/agent/check/{('fail', 'pass')[number % 2]}/service:{NAME}-0"
            told = asyncio.ensure_future(agent.put(path))
            await seen
            now = time.perf_counter()
            whole.append(now - begun)
            after.append(now - max(answer.arrived for answer in answers))
            await told
    return whole, after


@contextmanager
def undisturbed() -> Iterator[bool]:
    """This process and those it starts at real-time priority; False where that is refused."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))
    except (AttributeError, OSError):
        yield False
        return
    try:
        yield True
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def said(delays: list[float], what: str) -> Findings:
    ordered = sorted(delays)
    return {
        f"{what} ms p50": 1e3 * statistics.median(ordered),
        f"{what} ms p99": 1e3 * ordered[int(len(ordered) * 0.99)],
    }


async def beside() -> Findings:
    """Both agents; Consul's figures are missing where it cannot be had."""
    found: Findings = {}
    with undisturbed() as undone:
        async with AsyncExitStack() as stack:
            agents = {"agent": await stack.enter_async_context(embedded())}
            try:
                agents["Consul"] = await stack.enter_async_context(consul())
            except (parts.Unavailable, OSError) as why:
                print(f"no real Consul to compare with: {why}")
            for agent in agents.values():
                for number in range(3):
                    await agent.register(NAME, number)
            delays: dict[str, list[float]] = {name: [] for name in agents}
            for number in range(BLOCKS + 1):
                for name, agent in agents.items():
                    taken = await asyncio.to_thread(block, agent.port)
                    delays[name] += taken if number else []  # the first only warms up
            for name, agent in agents.items():
                found |= said(delays[name], f"wire: {name}")
                whole, after = await watched(agent)
                found |= said(whole, f"watch: {name}") | said(after, f"after its answer: {name}")
    if "Consul" in agents:
        ratio = found["wire: agent ms p99"] / found["wire: Consul ms p50"]
        found["agent p99 / Consul p50"] = ratio
    found["real-time priority"] = float(undone)
    return found
