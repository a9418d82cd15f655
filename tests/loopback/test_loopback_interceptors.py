"""mesh.interceptors on a grpc.aio channel of one's own: every kind of call passes the column."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest


async def test_a_unary_call_passes(world, intercepted):
    call = world.call(intercepted, "unary_unary_echo")(b"hi", metadata=(("a", "1"), ("a", "2")))
    assert await call == b"hi"
    assert [pair for pair in world.service.seen[0] if pair[0] == "a"] == [("a", "1"), ("a", "2")]
    assert tuple(await call.trailing_metadata()) == (("tail", "1"), ("tail", "2"), ("other", "o"))
    assert await call.code() is grpc.StatusCode.OK


async def test_a_status_passes_whole(world, intercepted):
    call = world.call(intercepted, "unary_unary_fail")(b"NOT_FOUND:gone")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "gone"
    assert next(iter(caught.value.trailing_metadata())) == ("why", "because")
    assert await call.code() is grpc.StatusCode.NOT_FOUND


async def test_the_deadline_passes(world, intercepted):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.call(intercepted, "unary_unary_hang")(b"", timeout=0.1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_cancellation_passes(world, intercepted):
    call = world.call(intercepted, "unary_unary_hang")(b"")
    asyncio.get_running_loop().call_later(0.05, call.cancel)
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(world.service.cancelled.wait(), 5)


async def test_streams_pass(world, intercepted):
    count = world.call(intercepted, "unary_stream_count")
    assert [message async for message in count(b"3")] == [b"0", b"1", b"2"]
    assert await world.call(intercepted, "stream_unary_join")([b"a", b"b"]) == b"ab"
    echo = world.call(intercepted, "stream_stream_echo")([b"a", b"b"])
    assert [message async for message in echo] == [b"a", b"b"]


async def test_streams_are_written_too(world, intercepted):
    join = world.call(intercepted, "stream_unary_join")()
    await join.write(b"a")
    await join.write(b"b")
    await join.done_writing()
    assert await join == b"ab"
    echo = world.call(intercepted, "stream_stream_echo")()
    await echo.write(b"x")
    assert await echo.read() == b"x"
    await echo.done_writing()
    assert await echo.read() is grpc.aio.EOF
