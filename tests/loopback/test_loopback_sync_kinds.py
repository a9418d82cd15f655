"""All that a caller who blocks can see of a call: the same on a plain channel and on ours."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import grpc.aio
import pytest

from mesh import Policy
from mesh.client.sync import SyncChannel
from tests.loopback.kinds import HEAD, KINDS, REQUESTS, TAIL, Kinds, Wire, do, plainly, told

Observe = Callable[[Any, str, Kinds], Any]
FUTURES = ["unary_unary", "stream_unary"]
STREAMS = ["unary_stream", "stream_stream"]


@pytest.fixture
async def kinds() -> AsyncIterator[tuple[Kinds, int]]:
    kinds = Kinds()
    server = grpc.aio.server(handlers=(kinds,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield kinds, port
    await server.stop(0)


@pytest.fixture
async def both(kinds: Any) -> AsyncIterator[Callable[[Observe, str], Any]]:
    """What an observer says of a plain channel, and of ours: with rules, which must not show."""
    address = f"127.0.0.1:{kinds[1]}"
    stack = ExitStack()

    def opened() -> tuple[Any, Any]:
        plain = stack.enter_context(grpc.insecure_channel(address))
        return plain, stack.enter_context(SyncChannel(address, Policy.production()))

    channels = await asyncio.to_thread(opened)

    async def compare(observe: Observe, kind: str) -> list[Any]:
        return [
            await asyncio.wait_for(asyncio.to_thread(observe, channel, kind, kinds[0]), 15)
            for channel in channels
        ]

    yield compare
    await asyncio.to_thread(stack.close)


def method(channel: Any, kind: str) -> Any:
    return getattr(channel, kind)(f"/all.Kinds/{kind}")


def asked(kind: str) -> Any:
    return iter(REQUESTS) if kind.startswith("stream") else REQUESTS[0]


def start(channel: Any, kind: str, what: str = "ok", **options: Any) -> Any:
    """A call that does not block: a future, or a stream."""
    make = method(channel, kind)
    make = make.future if kind in FUTURES else make
    return make(asked(kind), metadata=do(what), **{"timeout": 5.0, **options})


def parts(error: Any) -> list[Any]:
    """An error, as grpc's callers take it apart."""
    kinds = [isinstance(error, kind) for kind in (grpc.RpcError, grpc.Call, grpc.Future)]
    return [
        *kinds,
        error.code(),
        plainly(error.details()),
        bool(error.debug_error_string()),
        told(error.initial_metadata()),
        told(error.trailing_metadata()),
    ]


def outcome(call: Any, kind: str) -> Any:
    """The reply or replies, or the error in its parts."""
    try:
        return list(call) if kind in STREAMS else call.result()
    except grpc.FutureCancelledError:
        return "cancelled"
    except grpc.RpcError as error:
        return parts(error)


def answers(call: Any) -> dict[str, Any]:
    """What a call that is over says of itself."""
    return {
        "kinds": [isinstance(call, kind) for kind in (grpc.RpcError, grpc.Call, grpc.Future)],
        "code": call.code(),
        "details": call.details(),
        "debug": bool(call.debug_error_string()),
        "initial": told(call.initial_metadata()),
        "trailing": told(call.trailing_metadata()),
        "state": (call.done(), call.running(), call.cancelled(), call.is_active(), call.cancel()),
        "late callback": call.add_callback(lambda: None),
    }


def eventually(predicate: Callable[[], object]) -> None:
    ends = time.monotonic() + 5
    while not predicate():
        assert time.monotonic() < ends
        time.sleep(0.005)


def whole(channel: Any, kind: str, what: str, **options: Any) -> Any:
    called, heard, done = threading.Event(), list[bool](), threading.Event()
    call = start(channel, kind, what, **options)
    # False says that the call is over already, and that nobody will be called.
    awaited = call.add_callback(called.set)
    found: list[Any] = [type(awaited)]
    call.add_done_callback(lambda over: heard.append(over is call))
    call.add_done_callback(lambda _: done.set())
    found += [4.0 < call.time_remaining() <= 5.0, outcome(call, kind), answers(call)]
    assert not awaited or called.wait(5)
    assert done.wait(5)
    call.add_done_callback(lambda over: heard.append(over is call))
    return [*found, heard]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_that_goes_well(both, kinds, kind):
    plain, mesh = await both(lambda channel, kind, _: whole(channel, kind, "ok"), kind)
    assert mesh == plain
    # Not grouped by key as on asyncio: the wire's own order.
    assert plain[3]["initial"] == list(HEAD)
    assert plain[3]["trailing"] == list(TAIL)
    assert kinds[0].seen[0] == kinds[0].seen[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["fail", "torn"])
async def test_a_call_that_fails_before_its_headers_or_after(both, kind, what):
    plain, mesh = await both(lambda channel, kind, _: whole(channel, kind, what), kind)
    assert mesh == plain
    assert plain[3]["trailing"] == list(TAIL)


@pytest.mark.parametrize("kind", FUTURES)
async def test_a_call_and_what_it_brought(both, kind):
    def observe(channel: Any, kind: str, kinds: Kinds) -> Any:
        make = method(channel, kind)
        reply = make(asked(kind), metadata=do("ok"), timeout=5.0)
        again, call = make.with_call(asked(kind), metadata=do("ok"), timeout=5.0)
        said = answers(call)
        return [reply, again, said, call.result(), call.exception(), call.traceback()]

    plain, mesh = await both(observe, kind)
    assert mesh == plain


@pytest.mark.parametrize("kind", FUTURES)
@pytest.mark.parametrize("how", ["__call__", "with_call"])
@pytest.mark.parametrize("what", ["fail", "torn", "hang"])
async def test_what_a_call_that_blocks_raises(both, kind, how, what):
    def observe(channel: Any, kind: str, kinds: Kinds) -> Any:
        seconds = 0.2 if what == "hang" else 5.0
        with pytest.raises(grpc.RpcError) as caught:
            getattr(method(channel, kind), how)(asked(kind), metadata=do(what), timeout=seconds)
        error: Any = caught.value
        heard: list[Any] = []
        error.add_done_callback(heard.append)
        with pytest.raises(grpc.RpcError) as again:
            error.result()
        return [
            *parts(error),
            (error.cancel(), error.cancelled(), error.running(), error.done()),
            again.value is error,
            error.exception() is error,
            error.traceback() is not None,
            heard == [error],
        ]

    plain, mesh = await both(observe, kind)
    assert mesh == plain


@pytest.mark.parametrize("kind", FUTURES)
async def test_a_future_that_is_waited_for_too_shortly(both, kind):
    def observe(channel: Any, kind: str, kinds: Kinds) -> Any:
        call = start(channel, kind, "hang")
        found: list[Any] = [call.running(), call.done(), call.is_active(), call.cancelled()]
        for ask in (call.result, call.exception, call.traceback):
            with pytest.raises(grpc.FutureTimeoutError):
                ask(timeout=0.02)
        found += [call.cancel(), call.cancelled(), call.done(), call.running(), call.is_active()]
        for ask in (call.result, call.exception, call.traceback):
            with pytest.raises(grpc.FutureCancelledError):
                ask(timeout=1.0)
        return [*found, call.cancel(), call.code(), call.details()]

    plain, mesh = await both(observe, kind)
    assert mesh == plain


@pytest.mark.parametrize("kind", FUTURES)
async def test_the_error_of_a_future_and_where_it_came_from(both, kind):
    def observe(channel: Any, kind: str, kinds: Kinds) -> Any:
        call = start(channel, kind, "fail")
        error = call.exception(timeout=5.0)
        return [*parts(error), error is call, call.traceback(timeout=5.0) is not None]

    plain, mesh = await both(observe, kind)
    # Whether the error is the call itself is grpc's own business.
    assert mesh[:-2] == plain[:-2]
    assert mesh[-1] is plain[-1] is True


@pytest.mark.parametrize("kind", STREAMS)
async def test_a_stream_that_is_cancelled(both, kind):
    def observe(channel: Any, kind: str, kinds: Kinds) -> Any:
        serving, cancelled = kinds.serving, kinds.cancelled
        call = start(channel, kind, "hang")
        eventually(lambda: kinds.serving > serving)
        found: list[Any] = [call.is_active(), call.cancel(), call.cancel(), call.cancelled()]
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        eventually(lambda: kinds.cancelled > cancelled)
        error: Any = caught.value
        found += [error.code(), error.details(), error is call]
        return [*found, call.code(), call.details(), call.is_active()]

    plain, mesh = await both(observe, kind)
    assert mesh == plain


@pytest.mark.parametrize("kind", STREAMS)
async def test_headers_before_the_first_reply_and_iteration_beyond_the_end(both, kind):
    def observe(channel: Any, kind: str, kinds: Kinds) -> Any:
        hung = start(channel, kind, "hang")
        headers = told(hung.initial_metadata())
        hung.cancel()
        call = start(channel, kind)
        found: list[Any] = [headers, iter(call) is call, next(call), list(call)]
        for _ in range(2):
            with pytest.raises(StopIteration):
                next(call)
        return found

    plain, mesh = await both(observe, kind)
    assert mesh == plain


@pytest.mark.parametrize("kind", STREAMS)
async def test_a_broken_stream_raises_itself_each_time(both, kind):
    def observe(channel: Any, kind: str, kinds: Kinds) -> Any:
        call, found = start(channel, kind, "fail"), []
        for _ in range(2):
            with pytest.raises(grpc.RpcError) as caught:
                next(call)
            found.append(parts(caught.value))
        return found

    plain, mesh = await both(observe, kind)
    assert mesh == plain


@pytest.mark.parametrize("kind", ["stream_unary", "stream_stream"])
async def test_an_iterator_of_requests_that_raises(both, kind):
    def observe(channel: Any, kind: str, kinds: Kinds) -> Any:
        def requests() -> Iterator[bytes]:
            yield b"one"
            raise RuntimeError("no more")

        make = method(channel, kind)
        call = make.future(requests()) if kind in FUTURES else make(requests())
        with pytest.raises(grpc.RpcError):
            list(call) if kind in STREAMS else call.result(timeout=5.0)
        return call.code(), call.details(), call.done(), call.cancelled()

    plain, mesh = await both(observe, kind)
    assert mesh == plain


@pytest.mark.parametrize("kind", KINDS)
async def test_compression_shows_on_the_wire(kinds, kind):
    wire = Wire(kinds[1])
    relay = await asyncio.start_server(wire, "127.0.0.1", 0)
    address = f"127.0.0.1:{relay.sockets[0].getsockname()[1]}"
    large = b"\0" * 100_000

    def observe(channel: Any) -> list[bool]:
        small = []
        with channel:
            grpc.channel_ready_future(channel).result(5)
            make = method(channel, kind)
            for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
                before = wire.up
                request = iter([large]) if kind.startswith("stream") else large
                reply = make(request, compression=compression, timeout=5.0)
                assert b"".join(reply if kind in STREAMS else [reply])
                small.append(wire.up - before < 10_000)
        return small

    async with relay:
        for channel in (grpc.insecure_channel(address), SyncChannel(address, Policy())):
            assert await asyncio.to_thread(observe, channel) == [False, True]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("patient", [None, True])
async def test_who_does_not_wait_for_a_server_is_told_at_once(kind, patient):
    def observe(channel: Any) -> Any:
        with channel:
            began = time.monotonic()
            call = start(channel, kind, timeout=0.4, wait_for_ready=patient)
            outcome(call, kind)
            return call.code(), time.monotonic() - began >= 0.39

    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()
    plain = await asyncio.to_thread(observe, grpc.insecure_channel(address))
    mesh = await asyncio.to_thread(observe, SyncChannel(address, Policy()))
    assert mesh == plain
    assert plain[1] is (patient is True)
