"""What benchmarks of calls compare: an echo server, and every kind of channel to it, on asyncio."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import grpc
import grpc.aio
from google.protobuf.wrappers_pb2 import BytesValue

from mesh.client.channel import Channel
from mesh.client.http2 import Http2Channel
from mesh.client.intercept import interceptors
from mesh.policy.config import Policy

METHOD = "/bench.Echo/Say"
REQUEST = BytesValue(value=b"x" * 145)
TIMEOUT = 10.0
BARE = "bare grpc.aio"
# A bare channel as the mesh sets up its own: no retrier below, and each call has a deadline.
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


def target(ports: list[int]) -> str:
    """Where a mesh channel finds the servers."""
    return "static://" + ",".join(f"127.0.0.1:{port}" for port in ports) + "/echo"


async def variants(stack: AsyncExitStack, ports: list[int]) -> dict[str, Say]:
    """Everything that is compared, by name; the first is what the others are compared with."""
    policy = Policy.production()

    def plain(*options: tuple[str, Any], interceptors: Sequence[Any] = ()) -> grpc.aio.Channel:
        where = f"127.0.0.1:{ports[0]}"
        return grpc.aio.insecure_channel(where, options, interceptors=interceptors)

    channels: dict[str, grpc.aio.Channel] = {
        BARE: plain(*CAREFUL),
        "bare, grpc's own retries on": plain(),
        "mesh, no rules": Channel(target(ports[:1]), Policy()),
        "mesh, production policy": Channel(target(ports[:1]), policy),
        "mesh, production, 3 endpoints": Channel(target(ports), policy),
        "http2 alone": Http2Channel(f"127.0.0.1:{ports[0]}"),
        "mesh over http2, production": Channel(target(ports[:1]), policy, transport="http2"),
        "mesh, production, observed": Channel(target(ports[:1]), policy, emit=lambda _: None),
        "1 interceptor that does nothing": plain(*CAREFUL, interceptors=[Nothing()]),
        "mesh.interceptors, production": plain(*CAREFUL, interceptors=interceptors(policy)),
    }
    says: dict[str, Say] = {}
    for name, channel in channels.items():
        opened = await stack.enter_async_context(channel)
        await opened.channel_ready()
        says[name] = _saying(opened)
    return says


def _saying(channel: grpc.aio.Channel) -> Say:
    say: Any = channel.unary_unary(METHOD, BytesValue.SerializeToString, BytesValue.FromString)
    return lambda: say(REQUEST, timeout=TIMEOUT)
