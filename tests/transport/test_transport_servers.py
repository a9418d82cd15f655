"""Real servers: thousands of calls compared byte for byte, messages of all sizes, memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import grpc
import grpc.aio
import pytest

from mesh.client.http2 import Http2Channel
from mesh.server import Server
from tests.server.echo import Echo as MeshEcho
from tests.server.echo import Text
from tests.transport import served
from tests.transport.envoy import ENVOY, hop
from tests.transport.served import ECHO, HANG, LARGE, BlockingEcho, Echo, expected

SERVERS = ["grpc.aio", "grpc", "mesh.Server", "Envoy"]
SAY = "/test.echo.v1.EchoService/Say"
# Of which each is another one; the last part of it is marked slow.
FEW, MANY = 1_000, 10_000
AT_ONCE = 64


@pytest.fixture(params=SERVERS)
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """Where one of the servers is, and which one it is."""
    name = request.param
    async with AsyncExitStack() as stack:
        if name == "grpc":
            yield await stack.enter_async_context(served.blocking(BlockingEcho())), name
        elif name == "mesh.Server":
            serving = Server("echo", [MeshEcho()]).serving()
            yield await stack.enter_async_context(serving), name
        else:
            address = await stack.enter_async_context(served.aio(Echo()))
            if name == "Envoy":
                if not ENVOY.exists():
                    pytest.skip("no Envoy in .tools")
                address = await stack.enter_async_context(hop(address, tmp_path))
            yield address, name


@asynccontextmanager
async def http2(address: str) -> AsyncIterator[Http2Channel]:
    async with Http2Channel(address, LARGE) as channel:
        yield channel


def asked(name: str, number: int) -> tuple[str, bytes, bytes]:
    """The method, a request that is no other's, and its reply."""
    if name == "mesh.Server":
        request = Text(text=f"{number} " * 40, number=number).SerializeToString()
        return SAY, request, request
    request = b"%d " % number * (1 + number % 50)
    return ECHO, request, expected(request)


async def calls(address: str, name: str, count: int) -> int:
    """So many calls, 64 at once; how many of them had the reply that is theirs."""
    right = 0
    async with http2(address) as channel:
        methods = {path: channel.unary_unary(path) for path in (ECHO, SAY)}
        numbers = iter(range(count))

        async def caller() -> None:
            nonlocal right
            for number in numbers:
                path, request, reply = asked(name, number)
                found = await methods[path](request, timeout=60)
                right += found == reply

        await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    return right


async def test_each_call_has_its_own_reply(server: tuple[str, str]) -> None:
    assert await calls(*server, FEW) == FEW


@pytest.mark.slow
async def test_each_of_ten_thousand_calls_has_its_own_reply(server: tuple[str, str]) -> None:
    assert await calls(*server, MANY) == MANY


# mesh.Server's Text holds a thousand characters.
@pytest.mark.parametrize("server", ["grpc.aio", "grpc", "Envoy"], indirect=True)
@pytest.mark.parametrize("together", [False, True], ids=["in turn", "together"])
async def test_messages_of_all_sizes_arrive_whole(server: tuple[str, str], together: bool) -> None:
    address, _ = server
    sizes = [*range(6), *(2**n + d for n in (10, 14, 16, 20, 22) for d in (-5, -1, 0, 1)), 8 << 20]
    rng = Random(1)
    messages = [rng.randbytes(size) for size in sizes]
    async with http2(address) as channel:
        echo = channel.unary_unary(ECHO)
        if together:
            replies = await asyncio.gather(*(echo(message, timeout=100) for message in messages))
        else:
            replies = [await echo(message, timeout=100) for message in messages]

    for message, reply in zip(messages, replies, strict=True):
        assert reply == expected(message)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_requests_are_understood(
    server: tuple[str, str], compression: grpc.Compression
) -> None:
    address, name = server
    path, request, reply = asked(name, 49)
    async with http2(address) as channel:
        assert await channel.unary_unary(path)(request, compression=compression) == reply


@pytest.mark.parametrize("kind", [Echo, BlockingEcho])
async def test_a_handler_hears_of_a_cancellation_and_of_its_deadline(kind: type[Echo]) -> None:
    echo = kind()
    serving = served.blocking if kind is BlockingEcho else served.aio
    async with serving(echo) as address, http2(address) as channel:
        hang = channel.unary_unary(HANG)
        call = hang(b"")
        await until(lambda: echo.calls == 1)
        assert call.cancel()
        await until(lambda: echo.cancelled == 1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await hang(b"", timeout=0.2)
        await until(lambda: echo.cancelled == 2)

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    if kind is Echo:
        assert echo.deadlines[0] is None
        assert echo.deadlines[1] is not None
        assert 0.0 < echo.deadlines[1] <= 0.2


async def test_deadlines_of_many_calls_are_each_kept() -> None:
    echo, loop = Echo(), asyncio.get_running_loop()
    async with served.aio(echo) as address, http2(address) as channel:
        await channel.channel_ready()
        hang = channel.unary_unary(HANG)

        async def timed(seconds: float) -> float:
            began = loop.time()
            with pytest.raises(grpc.aio.AioRpcError):
                await hang(b"", timeout=seconds)
            return loop.time() - began - seconds

        late = await asyncio.gather(*(timed(0.05 + n / 1_000) for n in range(200)))
        await until(lambda: echo.cancelled == echo.calls)
        assert min(late) > -0.005
        assert channel.subchannel.connection is not None
        assert channel.subchannel.connection.idle


async def test_more_calls_than_a_server_lets_in_wait_their_turn(tmp_path: Path) -> None:
    if not ENVOY.exists():
        pytest.skip("no Envoy in .tools")
    async with (
        served.aio(Echo()) as address,
        hop(address, tmp_path, streams=3) as near,
        http2(near) as channel,
    ):
        echo = channel.unary_unary(ECHO)
        requests = [b"%d" % number for number in range(500)]
        replies = await asyncio.gather(*(echo(request, timeout=60) for request in requests))

    assert replies == [expected(request) for request in requests]


@pytest.mark.parametrize("address", ["unix", "[::1]:0", "localhost:0"])
async def test_other_kinds_of_addresses(address: str, tmp_path: Path) -> None:
    where = f"unix:{tmp_path}/socket" if address == "unix" else address
    async with served.aio(Echo(), where) as found, http2(found) as channel:
        assert await channel.unary_unary(ECHO)(b"hi", timeout=20) == b"<hi>"
        if address == "unix":
            slashes = f"unix://{tmp_path}/socket"
            async with http2(slashes) as other:
                assert await other.unary_unary(ECHO)(b"hi", timeout=20) == b"<hi>"


@pytest.mark.parametrize("end", ["reply", "status", "deadline", "cancelled", "awaited"])
async def test_a_call_is_gone_with_its_last_user_without_the_collector(end: str) -> None:
    """Replies are megabytes, and who collects seldom would hold a thousand of them."""
    kept = []
    async with served.aio(Echo()) as address, http2(address) as channel:
        await channel.channel_ready()
        path = {"reply": ECHO, "awaited": ECHO, "status": "/test.Served/fails"}.get(end, HANG)
        method = channel.unary_unary(path)
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                call = method(b"x", timeout=0.02 if end == "deadline" else 20)
                kept.append(weakref.ref(call))
                if end == "cancelled":
                    await asyncio.sleep(0)
                    call.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await call
                elif end == "reply":
                    assert await call == b"<x>"
                elif end == "awaited":
                    assert await call.code() is grpc.StatusCode.OK
                else:
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        await call
                del call
            await asyncio.sleep(0.05)
            alive = sum(each() is not None for each in kept)
        finally:
            gc.enable()

    assert alive <= 1


def resident() -> int:
    """Kilobytes of memory that this process holds."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError


@pytest.mark.slow
async def test_memory_stays_flat_under_cancellation() -> None:
    """grpc.aio keeps about a kilobyte of each call that is cancelled; this keeps nothing."""
    async with served.process() as (address, _), http2(address) as channel:
        hang = channel.unary_unary(HANG)
        connection: Any = None

        async def cancelled(count: int) -> None:
            for _ in range(count // 20):
                made = [hang(b"x" * 100) for _ in range(20)]
                await asyncio.sleep(0)
                for call in made:
                    call.cancel()

        await channel.channel_ready()
        connection = channel.subchannel.connection
        await cancelled(4_000)
        gc.collect()
        before, objects = resident(), len(gc.get_objects())
        await cancelled(20_000)
        gc.collect()
        grown, more = resident() - before, len(gc.get_objects()) - objects

        assert channel.subchannel.connection is connection
        assert connection.idle
        assert channel.calls == set()
        assert more < 200
        assert grown < 2_000, f"{grown} KB for 20,000 calls"


async def until(true: Any) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.005)
