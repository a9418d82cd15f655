"""The same body runs on a plain grpc.aio channel and on a mesh channel: one request, one reply."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.loopback.town import eventually

CODES = [code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


async def test_metadata_keeps_order_and_duplicates_both_ways(world, channel):
    call = world.call(channel, "unary_unary_echo")(
        b"hi", metadata=(("a", "1"), ("b", "2"), ("a", "3"), ("c-bin", b"\0\xff"))
    )

    assert await call == b"hi"
    sent = [pair for pair in world.service.seen[0] if pair[0] in ("a", "b", "c-bin")]
    # Of fields with different names the order says nothing (RFC 9110, 5.3): grpcio groups them.
    assert sorted(sent, key=lambda pair: pair[0]) == [
        *(("a", "1"), ("a", "3"), ("b", "2"), ("c-bin", b"\0\xff")),
    ]
    initial, trailing = await call.initial_metadata(), await call.trailing_metadata()
    assert isinstance(initial, grpc.aio.Metadata)
    assert tuple(initial) == (("head", "1"), ("head", "2"), ("x-bin", b"\0\1"))
    assert tuple(trailing) == (("tail", "1"), ("tail", "2"), ("other", "o"))


async def test_a_finished_call_answers_every_question(world, channel):
    call = world.call(channel, "unary_unary_echo")(b"hi", timeout=5)
    assert not call.done()
    assert not call.cancelled()
    assert 4 < call.time_remaining() <= 5
    assert await call == b"hi"

    assert call.done()
    assert not call.cancelled()
    assert not call.cancel()
    assert await call.code() is grpc.StatusCode.OK
    assert await call.details() == ""
    assert await call.debug_error_string() == ""
    assert await call == b"hi"
    assert isinstance(call, grpc.aio.UnaryUnaryCall)


async def test_no_timeout_is_no_deadline(world, channel):
    call = world.call(channel, "unary_unary_time")(b"")
    assert call.time_remaining() is None
    assert await call == b"none"
    assert await world.call(channel, "unary_unary_time")(b"", timeout=7) in (b"7.0", b"6.9")


@pytest.mark.parametrize("code", CODES)
async def test_a_status_arrives_whole(world, channel, code):
    call = world.call(channel, "unary_unary_fail")(f"{code}:the reason".encode())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call

    error = caught.value
    assert error.code() is grpc.StatusCode[code]
    assert error.details() == "the reason"
    assert tuple(error.trailing_metadata()) == (("why", "because"), ("why-bin", b"\0\xff"))
    assert tuple(error.initial_metadata()) == ()
    assert "the reason" in error.debug_error_string()
    assert await call.code() is error.code()
    assert await call.details() == "the reason"
    assert tuple(await call.trailing_metadata()) == tuple(error.trailing_metadata())
    assert call.done()
    assert call.cancelled() is (code == "CANCELLED")


async def test_the_deadline_is_kept(world, channel):
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.call(channel, "unary_unary_hang")(b"", timeout=0.2)

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "Deadline Exceeded" in caught.value.details()
    assert 0.19 < loop.time() - started < 0.5


async def test_a_deadline_that_has_passed_fails(world, channel):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.call(channel, "unary_unary_hang")(b"", timeout=-1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_two_calls_made_and_then_awaited_in_turn_run_side_by_side(world, channel):
    hang = world.call(channel, "unary_unary_hang")
    first, second = hang(b"1"), hang(b"2")
    await eventually(lambda: world.service.calls == 2)
    world.service.release.set()
    assert (await first, await second) == (b"1", b"2")


async def test_calls_are_awaitables_for_gather_and_wait_for(world, channel):
    echo = world.call(channel, "unary_unary_echo")
    assert await asyncio.gather(*(echo(b"%d" % n) for n in range(3))) == [b"0", b"1", b"2"]
    assert await asyncio.wait_for(echo(b"x"), 5) == b"x"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(world.call(channel, "unary_unary_hang")(b""), 0.05)
    await asyncio.wait_for(world.service.cancelled.wait(), 5)


async def test_a_call_is_cancelled_by_its_caller(world, channel):
    call = world.call(channel, "unary_unary_hang")(b"")
    asyncio.get_running_loop().call_later(0.05, call.cancel)
    with pytest.raises(asyncio.CancelledError):
        await call

    assert call.cancelled()
    assert call.done()
    assert await call.code() is grpc.StatusCode.CANCELLED
    assert await call.details() == "Locally cancelled by application!"
    assert tuple(await call.trailing_metadata()) == ()
    assert not call.cancel()
    assert asyncio.current_task().cancelling() == 0
    await asyncio.wait_for(world.service.cancelled.wait(), 5)


async def test_a_call_cancelled_at_once_never_starts(world, channel):
    call = world.call(channel, "unary_unary_hang")(b"")
    assert call.cancel()
    assert call.done()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await call.code() is grpc.StatusCode.CANCELLED


async def test_cancelling_the_awaiting_task_cancels_the_call(world, channel):
    call = world.call(channel, "unary_unary_hang")(b"")

    async def wait() -> None:
        await call

    task = asyncio.ensure_future(wait())
    await eventually(lambda: world.service.calls == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(world.service.cancelled.wait(), 5)
    assert call.cancelled()


async def test_code_can_be_asked_while_another_task_awaits(world, channel):
    call = world.call(channel, "unary_unary_hang")(b"x")
    asking = asyncio.ensure_future(call.code())
    asyncio.get_running_loop().call_later(0.02, world.service.release.set)
    assert await call == b"x"
    assert await asking is grpc.StatusCode.OK


async def test_done_callbacks_hear_of_the_end_once_with_the_call(world, channel):
    heard: list[Any] = []
    call = world.call(channel, "unary_unary_echo")(b"")
    call.add_done_callback(heard.append)
    await call
    call.add_done_callback(heard.append)
    await eventually(lambda: len(heard) == 2)
    assert heard == [call, call]


async def test_compression_is_asked_for_per_call(world, channel):
    call = world.call(channel, "unary_unary_echo")(b"x" * 10_000, compression=grpc.Compression.Gzip)
    assert await call == b"x" * 10_000
    assert await call.code() is grpc.StatusCode.OK


async def test_call_credentials_need_a_secure_channel(world, channel):
    credentials = grpc.access_token_call_credentials("token")
    with pytest.raises(grpc.aio.UsageError):
        world.call(channel, "unary_unary_echo")(b"", credentials=credentials)


async def test_an_unknown_method_is_unimplemented(world, channel):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/test.Echo/nothing")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_serializers_are_used(world, channel):
    echo = channel.unary_unary(
        "/test.Echo/unary_unary_echo",
        request_serializer=str.encode,
        response_deserializer=lambda raw: raw.decode().upper(),
    )
    assert await echo("hi") == "HI"


async def test_a_registered_method_is_taken_as_generated_stubs_pass_it(world, channel):
    echo = channel.unary_unary(
        "/test.Echo/unary_unary_echo",
        request_serializer=None,
        response_deserializer=None,
        _registered_method=True,
    )
    assert await echo(b"hi") == b"hi"


async def test_a_channel_knows_when_it_is_ready(world, channel):
    await asyncio.wait_for(channel.channel_ready(), 5)
    assert channel.get_state() is grpc.ChannelConnectivity.READY


async def test_closing_cancels_what_is_in_flight(world, channel):
    call = world.call(channel, "unary_unary_hang")(b"")
    await eventually(lambda: world.service.calls == 1)
    await channel.close()
    with pytest.raises(asyncio.CancelledError):
        await call
    with pytest.raises(grpc.aio.UsageError):
        world.call(channel, "unary_unary_echo")(b"")


async def test_closing_with_grace_lets_calls_finish(world, channel):
    call = world.call(channel, "unary_unary_hang")(b"x")
    await eventually(lambda: world.service.calls == 1)
    asyncio.get_running_loop().call_later(0.05, world.service.release.set)
    await channel.close(5)
    assert await call == b"x"


async def test_a_call_that_nobody_awaits_is_made_all_the_same(world, channel):
    call = world.call(channel, "unary_unary_echo")(b"hi")
    await eventually(call.done)

    assert world.service.calls == 1
    assert await call == b"hi"
