"""A real grpc.aio server, and the two channels to it that must not be told apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import grpc.aio
import pytest

from discovery.memory import MemoryRegistry
from discovery.model import Instance
from mesh.client.channel import Channel
from mesh.client.http2 import Http2Channel
from mesh.client.intercept import interceptors
from mesh.client.pool import GRPCIO, HTTP2
from mesh.policy.config import Policy
from tests.loopback.town import Town

Handler = Callable[[Any, Any], Any]


class Service(grpc.GenericRpcHandler):
    """Raw bytes in and out; the method's name says what happens."""

    def __init__(self) -> None:
        self.seen: list[tuple[tuple[str, str | bytes], ...]] = []
        self.calls = 0
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()

    def service(self, handler_call_details: Any) -> Any:
        name = handler_call_details.method.rsplit("/", 1)[1]
        for make in (
            grpc.unary_unary_rpc_method_handler,
            grpc.unary_stream_rpc_method_handler,
            grpc.stream_unary_rpc_method_handler,
            grpc.stream_stream_rpc_method_handler,
        ):
            kind = make.__name__.removesuffix("_rpc_method_handler")
            if name.startswith(kind + "_"):
                return make(getattr(self, name.removeprefix(kind + "_") + "_" + kind))
        return None

    def _note(self, context: Any) -> None:
        self.calls += 1
        self.seen.append(tuple(context.invocation_metadata()))

    async def echo_unary_unary(self, request: bytes, context: Any) -> bytes:
        self._note(context)
        await context.send_initial_metadata((("head", "1"), ("head", "2"), ("x-bin", b"\0\1")))
        context.set_trailing_metadata((("tail", "1"), ("other", "o"), ("tail", "2")))
        return request

    async def fail_unary_unary(self, request: bytes, context: Any) -> bytes:
        self._note(context)
        code, _, details = request.decode().partition(":")
        status = getattr(grpc.StatusCode, code)
        await context.abort(status, details, (("why", "because"), ("why-bin", b"\0\xff")))
        raise AssertionError

    async def hang_unary_unary(self, request: bytes, context: Any) -> bytes:
        self._note(context)
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return request

    async def time_unary_unary(self, request: bytes, context: Any) -> bytes:
        remaining = context.time_remaining()
        return b"none" if remaining is None else b"%.1f" % remaining

    async def count_unary_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self._note(context)
        await context.send_initial_metadata((("head", "1"),))
        for number in range(int(request)):
            yield b"%d" % number
        context.set_trailing_metadata((("tail", "1"),))

    async def quiet_unary_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """Empty headers at once, the message much later."""
        self._note(context)
        await context.send_initial_metadata(())
        await self.release.wait()
        yield request

    async def break_unary_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """Some messages, then an error; "0" fails before any header."""
        self._note(context)
        for number in range(int(request)):
            yield b"%d" % number
        await context.abort(grpc.StatusCode.DATA_LOSS, "torn", (("why", "because"),))

    async def forever_unary_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self._note(context)
        try:
            while True:
                yield request
                await asyncio.sleep(0.001)
        finally:
            self.cancelled.set()

    async def join_stream_unary(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        self._note(context)
        context.set_trailing_metadata((("tail", "1"),))
        return b"".join([request async for request in requests])

    async def refuse_stream_unary(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        self._note(context)
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")
        raise AssertionError

    async def echo_stream_stream(
        self, requests: AsyncIterator[bytes], context: Any
    ) -> AsyncIterator[bytes]:
        self._note(context)
        async for request in requests:
            if request == b"fail":
                await context.abort(grpc.StatusCode.ABORTED, "asked to")
            yield request


class World:
    """The server, and how to reach it by either kind of channel."""

    def __init__(self, service: Service, port: int, registry: MemoryRegistry) -> None:
        self.service = service
        self.port = port
        self.registry = registry

    def call(self, channel: Any, name: str) -> Any:
        """The multi-callable of a method such as "unary_unary_echo"."""
        kind = "_".join(name.split("_")[:2])
        return getattr(channel, kind)(f"/test.Echo/{name}")


Connect = Callable[[], Any]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    service, registry = Service(), MemoryRegistry()
    server = grpc.aio.server(handlers=(service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with registry.register(Instance("echo", "127.0.0.1", port)):
            yield World(service, port, registry)
    finally:
        service.release.set()
        await server.stop(0)


@pytest.fixture(params=["plain", "http2", "mesh", "mesh over http2"])
async def channel(request: pytest.FixtureRequest, world: World) -> AsyncIterator[Any]:
    address = f"127.0.0.1:{world.port}"
    opened: dict[str, Callable[[], Any]] = {
        "plain": lambda: grpc.aio.insecure_channel(address),
        "http2": lambda: Http2Channel(address),
        "mesh": lambda: Channel("echo", Policy(), registry=world.registry),
        "mesh over http2": lambda: Channel(
            "echo", Policy(), registry=world.registry, transport="http2"
        ),
    }
    async with opened[request.param]() as channel:
        yield channel


@pytest.fixture
async def intercepted(world: World) -> AsyncIterator[grpc.aio.Channel]:
    address = f"127.0.0.1:{world.port}"
    async with grpc.aio.insecure_channel(address, interceptors=interceptors()) as channel:
        yield channel


@pytest.fixture(params=[GRPCIO, HTTP2])
async def town(request: pytest.FixtureRequest) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        yield Town(stack, request.param)
