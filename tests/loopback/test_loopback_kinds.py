"""All that a caller on asyncio can see of a call: the same on a plain channel and on ours."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import grpc.aio
import pytest

from mesh import Policy
from mesh.client.channel import Channel
from mesh.client.pool import GRPCIO, HTTP2
from mesh.client.status import LOCALLY_CANCELLED
from tests.loopback.kinds import HEAD, KINDS, REQUESTS, TAIL, Kinds, Wire, do, plainly, told
from tests.loopback.town import eventually

Observe = Callable[[Any, str, Kinds], Awaitable[Any]]
CLASSES = {
    "unary_unary": grpc.aio.UnaryUnaryCall,
    "unary_stream": grpc.aio.UnaryStreamCall,
    "stream_unary": grpc.aio.StreamUnaryCall,
    "stream_stream": grpc.aio.StreamStreamCall,
}


@pytest.fixture
async def kinds() -> AsyncIterator[tuple[Kinds, int]]:
    kinds = Kinds()
    server = grpc.aio.server(handlers=(kinds,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield kinds, port
    await server.stop(0)


@pytest.fixture(params=[GRPCIO, HTTP2])
async def both(kinds: Any, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """What an observer says of a plain channel, and of ours: with rules, which must not show."""
    address = f"127.0.0.1:{kinds[1]}"
    async with AsyncExitStack() as stack:
        plain = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        ours = Channel(address, Policy.production(), transport=request.param)
        mesh = await stack.enter_async_context(ours)

        async def compare(observe: Observe, kind: str) -> list[Any]:
            return [
                await asyncio.wait_for(observe(channel, kind, kinds[0]), 10)
                for channel in (plain, mesh)
            ]

        yield compare


def start(channel: Any, kind: str, what: str = "ok", **options: Any) -> Any:
    method = getattr(channel, kind)(f"/all.Kinds/{kind}")
    asked = iter(REQUESTS) if kind.startswith("stream") else REQUESTS[0]
    return method(asked, metadata=do(what), **{"timeout": 5.0, **options})


def grouped(pairs: Any) -> list[tuple[str, str | bytes]]:
    """As grpc.aio.Metadata gives them out: what has one key stands together."""
    return list(grpc.aio.Metadata(*pairs))


async def outcome(call: Any, kind: str) -> Any:
    """The reply or replies, or the error in its parts."""
    try:
        return [each async for each in call] if kind.endswith("stream") else await call
    except asyncio.CancelledError:
        return "cancelled"
    except grpc.aio.AioRpcError as error:
        parts = (told(error.initial_metadata()), told(error.trailing_metadata()))
        return error.code(), error.details(), bool(error.debug_error_string()), *parts


async def answers(call: Any) -> dict[str, Any]:
    """What a call that is over says of itself."""
    return {
        "code": await call.code(),
        "details": await call.details(),
        "debug": bool(await call.debug_error_string()),
        "initial": told(await call.initial_metadata()),
        "trailing": told(await call.trailing_metadata()),
        "state": (call.done(), call.cancelled(), call.cancel(), call.cancelled()),
    }


async def whole(channel: Any, kind: str, what: str, **options: Any) -> Any:
    heard: list[bool] = []
    call = start(channel, kind, what, **options)
    call.add_done_callback(lambda done: heard.append(done is call))
    remaining = call.time_remaining()
    found = [isinstance(call, CLASSES[kind]), call.done(), 4.0 < remaining <= 5.0]
    found += [await outcome(call, kind), await answers(call)]
    await eventually(lambda: heard)
    call.add_done_callback(lambda done: heard.append(done is call))
    await eventually(lambda: len(heard) == 2)
    return [*found, heard]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_that_goes_well(both, kinds, kind):
    plain, mesh = await both(lambda channel, kind, _: whole(channel, kind, "ok"), kind)
    assert mesh == plain
    assert plain[4]["initial"] == grouped(HEAD)
    assert plain[4]["trailing"] == grouped(TAIL)
    # grpcio sends those of one name together, our own HTTP/2 as they were given.
    assert [grouped(each) for each in kinds[0].seen] == [grouped(do("ok"))] * 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["fail", "torn"])
async def test_a_call_that_fails_before_its_headers_or_after(both, kind, what):
    plain, mesh = await both(lambda channel, kind, _: whole(channel, kind, what), kind)
    assert mesh == plain
    assert plain[4]["code"] is not grpc.StatusCode.OK
    assert plain[4]["trailing"] == grouped(TAIL)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_whose_time_is_up(both, kind):
    async def observe(channel: Any, kind: str, kinds: Kinds) -> Any:
        call = start(channel, kind, "hang", timeout=0.2)
        code, details, *_, trailing = await outcome(call, kind)
        found = await answers(call)
        assert details == found.pop("details")
        return code, plainly(details), trailing, found, call.time_remaining()

    plain, mesh = await both(observe, kind)
    assert mesh == plain
    assert plain[0] is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_that_its_caller_cancels(both, kind):
    async def observe(channel: Any, kind: str, kinds: Kinds) -> Any:
        serving, cancelled = kinds.serving, kinds.cancelled
        call = start(channel, kind, "hang")
        waiting = asyncio.ensure_future(outcome(call, kind))
        await eventually(lambda: kinds.serving > serving)
        found = [call.done(), call.cancel(), call.cancel(), call.cancelled(), call.done()]
        found += [await waiting, await answers(call)]
        await eventually(lambda: kinds.cancelled > cancelled)
        return found

    plain, mesh = await both(observe, kind)
    # An aborted read says nothing of what it read before: only whether headers came is compared.
    for found in (plain, mesh):
        found[-1].pop("initial")
    assert mesh == plain
    assert plain[-1]["code"] is grpc.StatusCode.CANCELLED


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_cancelled_before_it_began(both, kind):
    async def observe(channel: Any, kind: str, kinds: Kinds) -> Any:
        call = start(channel, kind, "hang")
        found = [call.cancel(), call.cancelled(), call.done(), await outcome(call, kind)]
        return [*found, await answers(call)]

    plain, mesh = await both(observe, kind)
    assert mesh == plain


@pytest.mark.parametrize("kind", KINDS)
async def test_a_task_that_waits_for_a_call_is_cancelled_and_the_call_with_it(both, kind):
    ended = ("cancelled", True, True, grpc.StatusCode.CANCELLED, LOCALLY_CANCELLED)

    async def observe(channel: Any, kind: str, kinds: Kinds) -> Any:
        if kind.endswith("stream") and not isinstance(channel, Channel):
            # grpc's own reader, cancelled before its first message, at times leaves the call be.
            return ended
        serving, cancelled = kinds.serving, kinds.cancelled
        call = start(channel, kind, "hang")
        task = asyncio.ensure_future(outcome(call, kind))
        await eventually(lambda: kinds.serving > serving)
        task.cancel()
        await asyncio.wait([task])
        await eventually(lambda: kinds.cancelled > cancelled)
        return task.result(), call.cancelled(), call.done(), await call.code(), await call.details()

    plain, mesh = await both(observe, kind)
    assert mesh == plain == ended


@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
async def test_the_headers_are_there_before_the_first_reply(both, kind):
    async def observe(channel: Any, kind: str, kinds: Kinds) -> Any:
        call = start(channel, kind, "hang")
        headers = told(await call.initial_metadata())
        call.cancel()
        return headers

    plain, mesh = await both(observe, kind)
    assert mesh == plain == grouped(HEAD)


@pytest.mark.parametrize("kind", KINDS)
async def test_waiting_for_the_connection_of_a_call(both, kind):
    async def observe(channel: Any, kind: str, kinds: Kinds) -> Any:
        call = start(channel, kind)
        found = await call.wait_for_connection()
        return found, await outcome(call, kind)

    plain, mesh = await both(observe, kind)
    assert mesh == plain


@pytest.mark.parametrize("kind", ["unary_unary", "stream_unary"])
async def test_a_reply_may_be_awaited_again_and_by_many(both, kind):
    async def observe(channel: Any, kind: str, kinds: Kinds) -> Any:
        call = start(channel, kind)
        replies = await asyncio.gather(outcome(call, kind), outcome(call, kind))
        return [*replies, await call, await asyncio.wait_for(call, 5)]

    plain, mesh = await both(observe, kind)
    assert mesh == plain


@pytest.mark.parametrize("kind", ["stream_unary", "stream_stream"])
async def test_a_stream_that_is_written_and_half_closed(both, kind):
    async def observe(channel: Any, kind: str, kinds: Kinds) -> Any:
        call = getattr(channel, kind)(f"/all.Kinds/{kind}")(metadata=do("ok"), timeout=5.0)
        for request in REQUESTS:
            assert await call.write(request) is None
        found: list[Any] = [await call.done_writing(), await call.done_writing()]
        with pytest.raises(asyncio.InvalidStateError) as closed:
            await call.write(b"more")
        found += [str(closed.value), await outcome(call, kind)]
        with pytest.raises(asyncio.InvalidStateError) as over:
            await call.write(b"more")
        return [*found, str(over.value), await call.done_writing(), await answers(call)]

    plain, mesh = await both(observe, kind)
    assert mesh == plain


@pytest.mark.parametrize("kind", ["stream_unary", "stream_stream"])
async def test_writing_beside_an_iterator(both, kind):
    async def observe(channel: Any, kind: str, kinds: Kinds) -> Any:
        call, found = start(channel, kind), []
        for use in (call.write(b"x"), call.done_writing()):
            with pytest.raises(grpc.aio.UsageError) as caught:
                await use
            found.append(str(caught.value))
        return [*found, await outcome(call, kind)]

    plain, mesh = await both(observe, kind)
    assert mesh == plain


@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
async def test_a_stream_that_is_read_to_its_end_and_beyond(both, kind):
    async def observe(channel: Any, kind: str, kinds: Kinds) -> Any:
        call = start(channel, kind)
        found = [await call.read() for _ in range(5)]
        return [each is grpc.aio.EOF or each for each in found], await answers(call)

    plain, mesh = await both(observe, kind)
    assert mesh == plain


@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
@pytest.mark.parametrize("what", ["fail", "torn"])
async def test_a_broken_stream_raises_each_time_it_is_read(both, kind, what):
    async def observe(channel: Any, kind: str, kinds: Kinds) -> Any:
        call, found = start(channel, kind, what), []
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            found.append((caught.value.code(), caught.value.details()))
        return found

    plain, mesh = await both(observe, kind)
    assert mesh == plain


@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
async def test_iterating_and_reading_are_not_mixed(both, kind):
    async def observe(channel: Any, kind: str, kinds: Kinds) -> Any:
        iterated, read = start(channel, kind, "hang"), start(channel, kind)
        found: list[Any] = [aiter(iterated) is aiter(iterated)]
        with pytest.raises(grpc.aio.UsageError) as caught:
            await iterated.read()
        found.append(str(caught.value))
        await read.read()
        with pytest.raises(grpc.aio.UsageError) as caught:
            aiter(read)
        iterated.cancel()
        read.cancel()
        return [*found, str(caught.value)]

    plain, mesh = await both(observe, kind)
    assert mesh == plain


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("patient", [None, False, True])
async def test_who_does_not_wait_for_a_server_is_told_at_once(kind, patient):
    async def observe(channel: Any) -> Any:
        async with channel:
            began = asyncio.get_running_loop().time()
            call = start(channel, kind, timeout=0.4, wait_for_ready=patient)
            await outcome(call, kind)
            waited = asyncio.get_running_loop().time() - began
            return await call.code(), waited >= 0.39

    port = _unused()
    plain = await observe(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
    for each in (GRPCIO, HTTP2):
        assert await observe(Channel(f"127.0.0.1:{port}", Policy(), transport=each)) == plain
    assert plain[1] is (patient is True)


@pytest.mark.parametrize("kind", KINDS)
async def test_compression_shows_on_the_wire(kinds, kind):
    wire = Wire(kinds[1])
    relay = await asyncio.start_server(wire, "127.0.0.1", 0)
    address = f"127.0.0.1:{relay.sockets[0].getsockname()[1]}"
    large = b"\0" * 100_000

    async def observe(channel: Any) -> list[int]:
        took = []
        async with channel:
            await channel.channel_ready()
            for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
                before = wire.up
                asked = iter([large]) if kind.startswith("stream") else large
                method = getattr(channel, kind)(f"/all.Kinds/{kind}")
                call = method(asked, compression=compression, timeout=5.0)
                assert isinstance(await outcome(call, kind), (bytes, list))
                took.append(wire.up - before)
        return took

    async with relay:
        ours = [Channel(address, Policy(), transport=each) for each in (GRPCIO, HTTP2)]
        for channel in (grpc.aio.insecure_channel(address), *ours):
            plain, gzip = await observe(channel)
            assert plain > 100_000
            assert gzip < 10_000


def _unused() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
