"""The same body runs on a plain grpc channel and on a mesh.SyncChannel, on a thread that blocks."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from mesh.client.sync import SyncChannel
from mesh.policy.config import Policy


@pytest.fixture(params=["plain", "mesh"])
async def channel(request: pytest.FixtureRequest, world: Any) -> AsyncIterator[Any]:
    def opened() -> Any:
        if request.param == "plain":
            return grpc.insecure_channel(f"127.0.0.1:{world.port}")
        return SyncChannel("echo", Policy(), registry=world.registry).__enter__()

    channel = await asyncio.to_thread(opened)
    yield channel
    await asyncio.to_thread(channel.close)


async def blocking(body: Any) -> None:
    """Run a body that blocks beside the server's loop."""
    await asyncio.wait_for(asyncio.to_thread(body), 15)


async def test_a_blocking_call_replies(world, channel):
    def body() -> None:
        echo = world.call(channel, "unary_unary_echo")
        assert echo(b"hi") == b"hi"
        metadata = (("a", "1"), ("b", "2"), ("a", "3"), ("c-bin", b"\0\xff"))
        reply, call = echo.with_call(b"hi", metadata=metadata)
        assert reply == b"hi"
        assert call.code() is grpc.StatusCode.OK
        trailing = [tuple(pair) for pair in call.trailing_metadata()]
        assert trailing == [("tail", "1"), ("other", "o"), ("tail", "2")]
        assert ("head", "2") in [tuple(pair) for pair in call.initial_metadata()]

    await blocking(body)
    sent = [pair for pair in world.service.seen[1] if pair[0] in ("a", "b", "c-bin")]
    assert [pair[1] for pair in sent if pair[0] == "a"] == ["1", "3"]
    assert ("c-bin", b"\0\xff") in sent


@pytest.mark.parametrize("code", [code.name for code in grpc.StatusCode if code.value[0]])
async def test_a_status_arrives_whole_where_it_is_raised(world, channel, code):
    def body() -> None:
        with pytest.raises(grpc.RpcError) as caught:
            world.call(channel, "unary_unary_fail")(f"{code}:the reason".encode())
        error = caught.value
        assert isinstance(error, grpc.Call)
        assert error.code() is grpc.StatusCode[code]
        assert error.details() == "the reason"
        trailing = [tuple(pair) for pair in error.trailing_metadata()]
        assert trailing == [("why", "because"), ("why-bin", b"\0\xff")]

    await blocking(body)


async def test_a_blocking_calls_deadline_is_kept(world, channel):
    def body() -> None:
        started = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            world.call(channel, "unary_unary_hang")(b"", timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert 0.19 < time.monotonic() - started < 0.6

    await blocking(body)


async def test_a_future_tells_its_result(world, channel):
    def body() -> None:
        heard: list[Any] = []
        done = threading.Event()
        future = world.call(channel, "unary_unary_echo").future(b"hi", timeout=5)
        future.add_done_callback(heard.append)
        future.add_done_callback(lambda _: done.set())
        assert future.result(5) == b"hi"
        assert future.done()
        assert not future.cancelled()
        assert future.exception() is None
        assert future.code() is grpc.StatusCode.OK
        assert done.wait(5)
        assert heard == [future]

    await blocking(body)


async def test_a_future_is_cancelled(world, channel):
    def body() -> None:
        future = world.call(channel, "unary_unary_hang").future(b"")
        time.sleep(0.05)
        assert future.cancel()
        assert future.cancelled()
        assert future.code() is grpc.StatusCode.CANCELLED
        assert future.details() == "Locally cancelled by application!"
        with pytest.raises(grpc.FutureCancelledError):
            future.result()

    await blocking(body)
    await asyncio.wait_for(world.service.cancelled.wait(), 5)


async def test_a_failed_future_raises_its_status(world, channel):
    def body() -> None:
        future = world.call(channel, "unary_unary_fail").future(b"ABORTED:no")
        with pytest.raises(grpc.RpcError) as caught:
            future.result(5)
        assert caught.value.code() is grpc.StatusCode.ABORTED
        assert future.exception().details() == "no"
        assert future.code() is grpc.StatusCode.ABORTED

    await blocking(body)


async def test_a_blocking_stream_is_iterated(world, channel):
    def body() -> None:
        call = world.call(channel, "unary_stream_count")(b"5")
        assert [tuple(pair) for pair in call.initial_metadata()] == [("head", "1")]
        assert list(call) == [b"0", b"1", b"2", b"3", b"4"]
        assert call.code() is grpc.StatusCode.OK
        assert [tuple(pair) for pair in call.trailing_metadata()] == [("tail", "1")]

    await blocking(body)


@pytest.mark.parametrize("messages", [0, 1, 3])
async def test_a_blocking_stream_that_breaks_gives_its_messages_first(world, channel, messages):
    def body() -> None:
        call = world.call(channel, "unary_stream_break")(b"%d" % messages)
        assert [next(call) for _ in range(messages)] == [b"%d" % n for n in range(messages)]
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert caught.value.code() is grpc.StatusCode.DATA_LOSS
        assert caught.value.details() == "torn"

    await blocking(body)


async def test_a_blocking_stream_is_cancelled(world, channel):
    def body() -> None:
        call = world.call(channel, "unary_stream_forever")(b"x")
        assert next(call) == b"x"
        call.cancel()
        with pytest.raises(grpc.RpcError) as caught:
            for _ in call:
                pass
        assert caught.value.code() is grpc.StatusCode.CANCELLED

    await blocking(body)
    await asyncio.wait_for(world.service.cancelled.wait(), 5)


async def test_requests_are_streamed_from_an_iterator(world, channel):
    def body() -> None:
        join = world.call(channel, "stream_unary_join")
        assert join(b"%d" % n for n in range(4)) == b"0123"
        reply, call = join.with_call(iter([b"a", b"b"]))
        assert reply == b"ab"
        assert [tuple(pair) for pair in call.trailing_metadata()] == [("tail", "1")]
        assert join.future(iter([b"c"])).result(5) == b"c"
        assert join(iter([b"x" * 50_000] * 30)) == b"x" * 1_500_000

    await blocking(body)


async def test_streams_run_both_ways(world, channel):
    def body() -> None:
        echo = world.call(channel, "stream_stream_echo")
        assert list(echo(b"%d" % n for n in range(10))) == [b"%d" % n for n in range(10)]

    await blocking(body)


async def test_thirty_two_threads_share_a_channel(world, channel):
    def body() -> None:
        echo = world.call(channel, "unary_unary_echo")
        count = world.call(channel, "unary_stream_count")

        def work(thread: int) -> None:
            for number in range(10):
                payload = b"%d-%d" % (thread, number)
                assert echo(payload, timeout=10) == payload
            assert list(count(b"3", timeout=10)) == [b"0", b"1", b"2"]

        with ThreadPoolExecutor(32) as pool:
            list(pool.map(work, range(32)))

    await blocking(body)
