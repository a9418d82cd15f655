"""The bad network does what it says, to plain sockets and to gRPC, and gives everything back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from mesh.testing.mesh import Mesh
from mesh.testing.network import Link, Network
from tests.server.echo import Echo, EchoStub, Text


@asynccontextmanager
async def mirror() -> AsyncIterator[str]:
    """A server that sends back every byte."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


class Wire:
    """A client of the mirror through a link."""

    def __init__(self, link: Link) -> None:
        self.link = link

    async def __aenter__(self) -> Wire:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.link.port)
        return self

    async def __aexit__(self, *why: object) -> None:
        self.writer.close()

    async def send(self, data: bytes) -> float:
        """Seconds until the same bytes have come back."""
        start = time.monotonic()
        self.writer.write(data)
        assert await asyncio.wait_for(self.reader.readexactly(len(data)), 10) == data
        return time.monotonic() - start


@asynccontextmanager
async def wired() -> AsyncIterator[Wire]:
    async with mirror() as upstream, Network() as network, Wire(network.link(upstream)) as wire:
        await wire.send(b"hello")
        yield wire


async def test_bytes_pass_whole_and_in_order():
    async with wired() as wire:
        await wire.send(bytes(range(256)) * 8192)


async def test_latency_counts_for_each_way_and_changes_at_run_time():
    async with wired() as wire:
        wire.link.set(latency=0.1)
        assert 0.2 <= await wire.send(b"slow") < 1.0
        wire.link.replies.latency = 0.0
        assert 0.1 <= await wire.send(b"half") < 0.2
        wire.link.set(latency=0.0)
        assert await wire.send(b"fast") < 0.1


async def test_rate_bounds_the_throughput():
    async with wired() as wire:
        wire.link.requests.rate = 1_000_000
        assert await wire.send(b"x" * 300_000) >= 0.2


async def test_loss_delays_and_loses_nothing():
    async with wired() as wire:
        wire.link.requests.loss = 1.0
        assert 0.2 <= await wire.send(b"retransmitted") < 1.0


async def test_a_blackhole_swallows_until_it_ends():
    async with wired() as wire:
        wire.link.replies.blackhole = True
        wire.writer.write(b"lost")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.reader.read(1), 0.2)
        wire.link.set(blackhole=False)
        assert await asyncio.wait_for(wire.reader.readexactly(4), 5) == b"lost"


async def test_reset_is_felt_as_a_reset_and_cut_as_an_end():
    async with wired() as wire:
        wire.link.cut()
        assert await asyncio.wait_for(wire.reader.read(1), 5) == b""
        async with Wire(wire.link) as again:
            await again.send(b"again")
            wire.link.reset()
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(again.reader.read(1), 5)
            assert wire.link.connections <= 2


async def test_refused_connections_leave_the_old_ones_alone():
    async with wired() as wire:
        wire.link.refuse = True
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", wire.link.port)
        await wire.send(b"still here")
        wire.link.refuse = False
        async with Wire(wire.link) as again:
            await again.send(b"welcome")


async def test_a_dead_upstream_resets_its_clients():
    async with Network() as network:
        link = network.link("127.0.0.1:1")
        async with Wire(link) as wire:
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(wire.reader.read(1), 5)


def test_an_unknown_fault_is_refused_by_name():
    async def ask() -> None:
        async with Network() as network:
            network.link("127.0.0.1:1").set(gremlins=1.0)

    with pytest.raises(AttributeError, match="gremlins"):
        asyncio.run(ask())


class Named(Echo):
    def __init__(self, name: str) -> None:
        self.name = name

    async def Say(self, request, context):
        return Text(text=self.name)


async def test_a_mesh_in_one_process_balances_crashes_and_drains():
    async with Mesh() as mesh:
        one = await mesh.serve("echo", [Named("one")])
        two = await mesh.serve("echo", [Named("two")])
        echo = EchoStub(await mesh.channel("echo"))

        async def heard(calls: int) -> set[str]:
            return {(await echo.Say(Text(), timeout=5)).text for _ in range(calls)}

        assert await heard(20) == {"one", "two"}
        await two.stop()
        assert await heard(5) == {"one"}

        one.link.set(latency=0.05)
        start = time.monotonic()
        await echo.Say(Text(), timeout=5)
        assert time.monotonic() - start >= 0.1

        one.crash()
        with pytest.raises(grpc.aio.AioRpcError) as gone:
            await echo.Say(Text(), timeout=1)
        assert gone.value.code().name in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        one.recover()
        assert (await echo.Say(Text(), timeout=10, wait_for_ready=True)).text == "one"
        (snapshot,) = [await anext(mesh.registry.watch("echo"))]
        assert [each.address for each in snapshot.endpoints] == [one.address]
