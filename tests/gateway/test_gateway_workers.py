"""Several processes on one port: one line, one port, one clean stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import discovery
from discovery.agent import Agent
from gateway.listen import ListenError, listen
from gateway.workers import sockets
from tests.gateway.scripted import Orders, running
from tests.gateway.test_gateway_process import process, refusal, refused

LINUX = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads /proc")


def children(pid: int) -> list[int]:
    """The processes that `pid` has started and that still run."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


class Connection:
    """One kept HTTP/1.1 connection, and which process serves it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.port: int = writer.get_extra_info("sockname")[1]

    async def ask(self, path: str = "/v1/orders/o-1") -> int:
        """The status; ConnectionError or IncompleteReadError when it is cut."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        await self._reader.readexactly(length)
        return int(head.split()[1])

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


async def ask_often(connection: Connection, times: int) -> list[int]:
    return [await connection.ask() for _ in range(times)]


@contextlib.asynccontextmanager
async def connections(url: str, workers: list[int]) -> AsyncIterator[dict[int, list[Connection]]]:
    """Sixteen kept connections, by the worker that serves each."""
    port = int(url.rsplit(":", 1)[1])
    made = [Connection(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(16)]
    found: dict[int, list[Connection]] = {}
    try:
        for one in made:
            assert await one.ask() == 200
            found.setdefault(server_of(port, one.port, workers), []).append(one)
        yield found
    finally:
        for one in made:
            await one.close()


def server_of(port: int, peer: int, processes: list[int]) -> int:
    """The process that holds the server's end of a connection on the loopback."""
    ends = (f":{port:04X}", f":{peer:04X}")
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(ends[0]) and fields[2].endswith(ends[1]):
            held = f"socket:[{fields[9]}]"
            return next(pid for pid in processes if held in held_by(pid))
    raise LookupError(f"no connection from {peer} to {port}")


def held_by(pid: int) -> set[str]:
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(str(descriptor.readlink()))
    return found


@contextlib.asynccontextmanager
async def shared() -> AsyncIterator[tuple[asyncio.subprocess.Process, str, Orders]]:
    """A gateway of two workers that both serve."""
    orders = Orders()
    async with (
        Agent.serving(port=0) as agent,
        discovery.connect(agent.url) as registry,
        running(registry, "orders", orders),
        process("--workers", "2", MESH_REGISTRY=agent.url) as child,
    ):
        assert child.stdout is not None
        line = (await asyncio.wait_for(child.stdout.readline(), 60)).decode()
        url = line.split()[-1]
        await served(url)
        yield child, url, orders


async def answered(url: str, times: int) -> list[int]:
    """Statuses of so many requests, each on a connection of its own."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as http:
        found = []
        for _ in range(times):
            async with http.get(f"{url}/v1/orders/o-1") as response:
                found.append(response.status)
        return found


async def served(url: str) -> None:
    async with asyncio.timeout(30):
        while await answered(url, 12) != [200] * 12:
            await asyncio.sleep(0.05)


@LINUX
async def test_workers_share_the_port_and_a_killed_one_is_replaced() -> None:
    async with shared() as (child, url, _):
        before = children(child.pid)
        async with connections(url, before) as kept:
            assert set(kept) == set(before), "connections are spread"

            os.kill(before[0], signal.SIGKILL)
            # Who is connected to another worker notices nothing.
            others = await asyncio.gather(*(ask_often(one, 20) for one in kept[before[1]]))
            # Who connects where nobody serves right now waits, and is served.
            assert await asyncio.wait_for(answered(url, 20), 60) == [200] * 20
            after = children(child.pid)

        child.send_signal(signal.SIGTERM)
        rest, _ = await asyncio.wait_for(child.communicate(), 30)

    assert {status for statuses in others for status in statuses} == {200}
    assert (before[1] in after, before[0] in after, len(after)) == (True, False, 2)
    assert (child.returncode, rest) == (0, b"")
    assert not any(Path(f"/proc/{pid}").exists() for pid in {*before, *after})


@LINUX
async def test_sigterm_lets_what_each_worker_serves_end() -> None:
    async with (
        shared() as (child, url, orders),
        connections(url, children(child.pid)) as kept,
    ):
        asked = len(orders.calls)
        slow = [asyncio.ensure_future(held[0].ask("/v1/orders/slow")) for held in kept.values()]
        async with asyncio.timeout(10):
            while len(orders.calls) < asked + 2:
                await asyncio.sleep(0.02)
        child.send_signal(signal.SIGTERM)
        await refused(url)
        orders.go.set()
        statuses = await asyncio.wait_for(asyncio.gather(*slow), 10)
        code = await asyncio.wait_for(child.wait(), 20)

    assert (statuses, code) == ([200, 200], 0)


@LINUX
async def test_no_worker_outlives_its_supervisor() -> None:
    async with process("--workers", "2", MESH_REGISTRY="memory://x") as child:
        assert child.stdout is not None
        await asyncio.wait_for(child.stdout.readline(), 60)
        orphans = children(child.pid)
        child.kill()
        await child.wait()
        async with asyncio.timeout(20):
            while any(_runs(pid) for pid in orphans):
                await asyncio.sleep(0.05)

    assert len(orphans) == 2


def _runs(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.mark.parametrize(
    ("arguments", "environ", "said"),
    [
        (("--workers", "0"), {}, "workers"),
        (("--workers", "x"), {}, "workers"),
        ((), {"GATEWAY_WORKERS": "1000"}, "workers"),
        (("--workers", "2"), {"MESH_REGISTRY": "ftp://x"}, "ftp"),
        (("--workers", "2"), {"GATEWAY_ADMIN_PORT": "0"}, "GATEWAY_ADMIN_PORT"),
    ],
)
async def test_what_workers_cannot_do_is_one_line(
    arguments: tuple[str, ...], environ: dict[str, Any], said: str
) -> None:
    code, errors = await refusal(*arguments, **{"MESH_REGISTRY": "memory://x", **environ})

    assert (code, errors.count("\n")) == (2, 1)
    assert said in errors


def test_a_port_that_another_gateway_has_is_not_shared() -> None:
    first = sockets("127.0.0.1", 0, 2)
    try:
        port = first[0].getsockname()[1]
        assert [one.getsockname()[1] for one in first] == [port, port]
        with pytest.raises(ListenError):
            sockets("127.0.0.1", port, 2)
        with pytest.raises(ListenError):
            listen("127.0.0.1", port)
    finally:
        for one in first:
            one.close()
