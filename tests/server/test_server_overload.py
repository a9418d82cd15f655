"""A server that has enough says so at once, and its health does not suffer for it."""

from __future__ import annotations

import asyncio
import struct

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.errors import Code
from mesh.server import Limits, Server
from mesh.status import from_error
from tests.server.echo import Echo, EchoStub, Text


class Holding(Echo):
    """Say and Count hold on until they are let go."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.release = asyncio.Event()

    async def Say(self, request, context):
        self.begun.put_nowait(request.text)
        await self.release.wait()
        return request

    async def Count(self, request, context):
        self.begun.put_nowait(request.text)
        await self.release.wait()
        yield request


async def refused(call) -> tuple[Code, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = from_error(caught.value)
    return error.code, error.reason


async def test_a_full_server_refuses_calls_and_answers_health_checks():
    holding = Holding()
    server = Server("echo", [holding], limits=Limits(maximum_concurrent_rpcs=2))
    async with server.serving() as address, grpc.aio.insecure_channel(address) as channel:
        echo = EchoStub(channel)
        first = asyncio.ensure_future(echo.Say(Text(text="a")).code())
        stream = echo.Count(Text(text="b"))
        reading = asyncio.ensure_future(stream.read())
        for _ in range(2):
            await asyncio.wait_for(holding.begun.get(), 5)

        overloaded = (Code.RESOURCE_EXHAUSTED, "SERVER_OVERLOADED")
        assert await refused(echo.Say(Text(text="c"))) == overloaded
        assert await refused(echo.Count(Text(text="c")).read()) == overloaded
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING

        holding.release.set()
        assert await first is grpc.StatusCode.OK
        assert (await reading).text == "b"
        await stream.code()
        assert (await echo.Say(Text(text="d"))).text == "d"


async def test_what_can_wait_is_refused_while_the_rest_still_gets_in():
    holding = Holding()
    server = Server("echo", [holding], limits=Limits(maximum_concurrent_rpcs=6))
    async with server.serving() as address, grpc.aio.insecure_channel(address) as channel:
        echo = EchoStub(channel)
        sheddable = (("x-mesh-criticality", "sheddable"),)
        held = [
            asyncio.ensure_future(echo.Say(Text(), metadata=sheddable).code()) for _ in range(3)
        ]
        for _ in held:
            await asyncio.wait_for(holding.begun.get(), 5)
        code, reason = await refused(echo.Say(Text(), metadata=sheddable))
        assert (code, reason) == (Code.RESOURCE_EXHAUSTED, "SERVER_OVERLOADED")
        held += [asyncio.ensure_future(echo.Say(Text()).code()) for _ in range(3)]
        for _ in range(3):
            await asyncio.wait_for(holding.begun.get(), 5)
        assert (await refused(echo.Say(Text())))[1] == "SERVER_OVERLOADED"
        holding.release.set()
        assert set(await asyncio.gather(*held)) == {grpc.StatusCode.OK}


async def test_a_cancelled_call_gives_its_place_back():
    holding = Holding()
    server = Server("echo", [holding], limits=Limits(maximum_concurrent_rpcs=1))
    async with server.serving() as address, grpc.aio.insecure_channel(address) as channel:
        echo = EchoStub(channel)
        for _ in range(3):
            code, _ = await refused(echo.Say(Text(text="a"), timeout=0.1))
            assert code is Code.DEADLINE_EXCEEDED
            assert await asyncio.wait_for(holding.begun.get(), 5) == "a"
        holding.release.set()
        async with asyncio.timeout(5):
            # Until the server has seen the last cancellation.
            while (code := await echo.Say(Text(text="b")).code()) is not grpc.StatusCode.OK:
                assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_connection_is_told_how_many_streams_it_may_open():
    """The cure for HTTP/2 rapid reset: SETTINGS_MAX_CONCURRENT_STREAMS is 100."""
    async with Server("echo", [Echo()]).serving() as address:
        host, port = address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        header = await asyncio.wait_for(reader.readexactly(9), 5)
        length = int.from_bytes(header[:3])
        payload = await asyncio.wait_for(reader.readexactly(length), 5)
        writer.close()
    settings = dict(struct.iter_unpack(">HI", payload))
    assert header[3] == 4
    assert settings[3] == 100


async def test_a_burst_of_more_calls_than_streams_waits_for_its_turn():
    """What clients hold back for want of a stream is served in turn, and none of it is refused."""
    async with (
        Server("echo", [Echo()]).serving() as address,
        grpc.aio.insecure_channel(address, options=[("grpc.enable_retries", 0)]) as channel,
    ):
        echo = EchoStub(channel)
        for _ in range(3):
            calls = [echo.Say(Text(text="a"), timeout=30).code() for _ in range(500)]
            assert set(await asyncio.gather(*calls)) == {grpc.StatusCode.OK}
