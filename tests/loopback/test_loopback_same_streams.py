"""The same body runs on a plain grpc.aio channel and on a mesh channel: the streams."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.loopback.town import eventually


async def test_a_stream_is_iterated(world, channel):
    call = world.call(channel, "unary_stream_count")(b"5", timeout=5)
    assert isinstance(call, grpc.aio.UnaryStreamCall)
    assert tuple(await call.initial_metadata()) == (("head", "1"),)
    assert [message async for message in call] == [b"0", b"1", b"2", b"3", b"4"]
    assert call.done()
    assert await call.code() is grpc.StatusCode.OK
    assert tuple(await call.trailing_metadata()) == (("tail", "1"),)
    assert [message async for message in call] == []


async def test_a_stream_is_read(world, channel):
    call = world.call(channel, "unary_stream_count")(b"2")
    assert await call.read() == b"0"
    assert await call.read() == b"1"
    assert await call.read() is grpc.aio.EOF
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_an_empty_stream_ends_well(world, channel):
    call = world.call(channel, "unary_stream_count")(b"0")
    assert [message async for message in call] == []
    assert await call.code() is grpc.StatusCode.OK


async def test_a_short_stream_is_not_lost_on_who_reads_late(world, channel):
    call = world.call(channel, "unary_stream_count")(b"1")
    await call.initial_metadata()
    await asyncio.sleep(0.05)
    assert await call.read() == b"0"
    assert await call.read() is grpc.aio.EOF


@pytest.mark.parametrize("messages", [0, 1, 3])
async def test_a_stream_that_breaks_gives_its_messages_and_then_the_error(world, channel, messages):
    call = world.call(channel, "unary_stream_break")(b"%d" % messages)
    got = [await call.read() for _ in range(messages)]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()

    assert got == [b"%d" % number for number in range(messages)]
    assert caught.value.code() is grpc.StatusCode.DATA_LOSS
    assert caught.value.details() == "torn"
    assert tuple(caught.value.trailing_metadata()) == (("why", "because"),)
    assert await call.code() is grpc.StatusCode.DATA_LOSS
    with pytest.raises(grpc.aio.AioRpcError):
        await call.read()


async def test_the_two_ways_to_read_are_not_mixed(world, channel):
    call = world.call(channel, "unary_stream_forever")(b"x")
    assert await call.read() == b"x"
    with pytest.raises(grpc.aio.UsageError):
        aiter(call)
    call.cancel()


async def test_headers_arrive_before_the_first_message(world, channel):
    call = world.call(channel, "unary_stream_quiet")(b"later")
    assert tuple(await asyncio.wait_for(call.initial_metadata(), 5)) == ()
    await asyncio.wait_for(call.wait_for_connection(), 5)
    assert not call.done()
    world.service.release.set()
    assert await call.read() == b"later"
    assert await call.read() is grpc.aio.EOF


async def test_a_stream_is_cancelled_by_its_caller(world, channel):
    call = world.call(channel, "unary_stream_forever")(b"x")
    assert await call.read() == b"x"
    assert call.cancel()
    assert call.cancelled()
    assert call.done()
    with pytest.raises(asyncio.CancelledError):
        await call.read()
    assert await call.code() is grpc.StatusCode.CANCELLED
    await asyncio.wait_for(world.service.cancelled.wait(), 5)


async def test_a_cancelled_reader_cancels_the_stream(world, channel):
    call = world.call(channel, "unary_stream_forever")(b"x")

    async def read() -> None:
        async for _ in call:
            pass

    task = asyncio.ensure_future(read())
    await eventually(lambda: world.service.calls == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(world.service.cancelled.wait(), 5)


async def test_the_deadline_of_a_stream_is_kept(world, channel):
    call = world.call(channel, "unary_stream_forever")(b"x", timeout=0.2)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_streams_done_callback_gets_the_callers_own_object(world, channel):
    heard: list[Any] = []
    call = world.call(channel, "unary_stream_count")(b"1")
    call.add_done_callback(heard.append)
    async for _ in call:
        pass
    await eventually(lambda: heard)
    assert heard == [call]


# -- streams of requests


async def numbers(count: int) -> Any:
    for number in range(count):
        yield b"%d" % number


@pytest.mark.parametrize("source", [numbers, lambda n: [b"%d" % i for i in range(n)]])
async def test_requests_come_from_an_iterator(world, channel, source):
    call = world.call(channel, "stream_unary_join")(source(4))
    assert isinstance(call, grpc.aio.StreamUnaryCall)
    assert await call == b"0123"
    assert await call.code() is grpc.StatusCode.OK
    assert tuple(await call.trailing_metadata()) == (("tail", "1"),)


async def test_requests_are_written(world, channel):
    call = world.call(channel, "stream_unary_join")()
    await call.wait_for_connection()
    await call.write(b"a")
    await call.write(b"b")
    await call.done_writing()
    await call.done_writing()
    with pytest.raises(asyncio.InvalidStateError):
        await call.write(b"c")
    assert await call == b"ab"


async def test_writing_beside_an_iterator_is_refused(world, channel):
    call = world.call(channel, "stream_unary_join")(numbers(1))
    with pytest.raises(grpc.aio.UsageError):
        await call.write(b"x")
    assert await call == b"0"


async def test_a_large_stream_of_requests_arrives_whole(world, channel):
    chunk = b"x" * 50_000
    assert await world.call(channel, "stream_unary_join")([chunk] * 30) == chunk * 30


async def test_a_server_may_refuse_a_stream_early(world, channel):
    call = world.call(channel, "stream_unary_refuse")(numbers(1))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_iterator_that_raises_cancels_the_call(world, channel):
    async def broken() -> Any:
        yield b"a"
        raise ValueError("mine")

    call = world.call(channel, "stream_unary_join")(broken())
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await call.code() is grpc.StatusCode.CANCELLED


async def test_a_conversation_goes_both_ways(world, channel):
    call = world.call(channel, "stream_stream_echo")()
    assert isinstance(call, grpc.aio.StreamStreamCall)
    for message in (b"a", b"b", b"c"):
        await call.write(message)
        assert await call.read() == message
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_conversation_is_iterated_both_ways(world, channel):
    call = world.call(channel, "stream_stream_echo")(numbers(10))
    assert [message async for message in call] == [b"%d" % number for number in range(10)]


async def test_an_error_ends_a_conversation_for_reader_and_writer(world, channel):
    call = world.call(channel, "stream_stream_echo")()
    await call.write(b"a")
    assert await call.read() == b"a"
    await call.write(b"fail")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.ABORTED
    with pytest.raises((asyncio.InvalidStateError, grpc.aio.AioRpcError)):
        await call.write(b"b")
    assert await call.details() == "asked to"


async def test_a_conversation_is_cancelled(world, channel):
    call = world.call(channel, "stream_stream_echo")()
    await call.write(b"a")
    assert await call.read() == b"a"
    assert call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.read()
    assert await call.code() is grpc.StatusCode.CANCELLED
