"""What benchmarks of calls compare: an echo server, and every kind of channel to it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import grpc.aio
from google.protobuf.wrappers_pb2 import BytesValue

from discovery.memory import MemoryRegistry
from discovery.model import Instance
from mesh.client.channel import Channel
from mesh.client.intercept import interceptors
from mesh.policy.config import Policy

METHOD = "/bench.Echo/Say"
REQUEST = BytesValue(value=b"x" * 145)
TIMEOUT = 10.0
BARE = "bare grpc.aio"
# A bare channel as a careful user sets it up: no second retrier below, a deadline on each call.
CAREFUL = (("grpc.enable_retries", 0),)
Say = Callable[[], Awaitable[Any]]


class Echo(grpc.GenericRpcHandler):
    """Gives back the bytes it gets."""

    def service(self, handler_call_details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._say)

    async def _say(self, request: bytes, context: Any) -> bytes:
        return request


async def serve() -> None:
    """Echo on three ports, until standard input closes; prints them."""
    server = grpc.aio.server(handlers=(Echo(),))
    ports = [server.add_insecure_port("127.0.0.1:0") for _ in range(3)]
    await server.start()
    print(*ports, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


class Nothing(grpc.aio.UnaryUnaryClientInterceptor):
    """An interceptor that does nothing."""

    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return await continuation(client_call_details, request)


async def variants(stack: AsyncExitStack, ports: list[int]) -> dict[str, Say]:
    """Everything that is compared, by name; the first is what the others are compared with."""
    first = f"127.0.0.1:{ports[0]}"
    one, three = MemoryRegistry(), MemoryRegistry()
    for port in ports:
        instance = Instance("echo", "127.0.0.1", port)
        await stack.enter_async_context(three.register(instance))
        if port == ports[0]:
            await stack.enter_async_context(one.register(instance))
    policy = Policy.production()

    def intercepted(*wrapped: grpc.aio.ClientInterceptor) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(first, CAREFUL, interceptors=wrapped)

    channels: dict[str, Any] = {
        BARE: grpc.aio.insecure_channel(first, CAREFUL),
        "bare, grpc's own retries on": grpc.aio.insecure_channel(first),
        "mesh, no rules": Channel("echo", Policy(), registry=one),
        "mesh, production policy": Channel("echo", policy, registry=one),
        "mesh, production, 3 endpoints": Channel("echo", policy, registry=three),
        "1 interceptor that does nothing": intercepted(Nothing()),
        "5 interceptors that do nothing": intercepted(*(Nothing() for _ in range(5))),
        "mesh.interceptors, production": intercepted(*interceptors(policy)),
    }
    says: dict[str, Say] = {}
    for name, channel in channels.items():
        opened = await stack.enter_async_context(channel)
        await opened.channel_ready()
        says[name] = _saying(opened)
        if name == BARE:
            says["bare, no deadline"] = _saying(opened, None)
    return says


def _saying(channel: grpc.aio.Channel, timeout: float | None = TIMEOUT) -> Say:
    say: Any = channel.unary_unary(METHOD, BytesValue.SerializeToString, BytesValue.FromString)
    return lambda: say(REQUEST, timeout=timeout)
