"""The life of a mesh channel: entered once, reached by any target, closed without a trace."""

from __future__ import annotations

import asyncio
import gc

import grpc
import grpc.aio
import pytest

from mesh import Policy
from mesh.client.channel import Channel
from tests.loopback.town import Flaky, method


async def test_calls_before_the_channel_is_entered_fail_clearly(town):
    channel = town.channel()
    with pytest.raises(grpc.aio.UsageError, match="not entered"):
        method(channel)(b"")
    async with channel:
        pass
    with pytest.raises(grpc.aio.UsageError, match="closed"):
        method(channel)(b"")
    with pytest.raises(grpc.aio.UsageError, match="only once"):
        await channel.__aenter__()


async def test_a_channel_is_reached_by_address_alone(town):
    port = await town.open(Flaky("one"))
    for target in (f"127.0.0.1:{port}", f"static://127.0.0.1:{port}"):
        async with Channel(target, Policy()) as channel:
            assert await method(channel)(b"", timeout=5) == b"one"


async def test_a_stream_that_nobody_holds_is_cancelled(town):
    flaky = Flaky("one")
    await town.open(flaky)
    async with town.channel() as channel:

        async def watch_a_little() -> None:
            async for _ in method(channel, "unary_stream")(b""):
                return

        await watch_a_little()
        gc.collect()  # outside the time: it goes through all that a whole run of tests has left
        async with asyncio.timeout(5):
            while channel.active:
                await asyncio.sleep(0.005)


async def test_closing_leaves_no_task_behind(town):
    await town.open(Flaky("one"))
    before = len(asyncio.all_tasks())
    async with town.channel() as channel:
        assert await method(channel)(b"") == b"one"
        hanging = method(channel, "stream_stream")()
        await hanging.write(b"a")
    async with asyncio.timeout(5):
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0.005)
    assert hanging.cancelled()


def test_a_transport_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"transport: 'quic' is none of \('grpcio', 'http2'\)"):
        Channel("echo", transport="quic")  # type: ignore[arg-type]
