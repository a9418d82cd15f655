"""Servers that come and go, and the registry that knows them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import grpc.aio
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from discovery.memory import MemoryRegistry
from discovery.model import Instance
from mesh import Code, Policy, Retry
from mesh.client.channel import Channel
from mesh.client.pool import GRPCIO, Transport
from mesh.client.status import RpcFailed

# With it, asking twice is asking once.
KEY = (("idempotency-key", "k-1"),)
QUICK = Retry(attempts=4, base=0.01, codes=frozenset({Code.UNAVAILABLE}))


class Flaky(grpc.GenericRpcHandler):
    """Fails with the statuses it is given, one a call, then answers with its name."""

    def __init__(self, name: str = "one", *failures: grpc.StatusCode) -> None:
        self.name = name
        self.failures = list(failures)
        self.seen: list[dict[str, Any]] = []
        self.deadlines: list[float | None] = []
        self.requests: list[list[bytes]] = []
        self.hold: asyncio.Event | None = None

    def service(self, handler_call_details: Any) -> Any:
        service, kind = handler_call_details.method.strip("/").split("/")
        if service != "town.Hall":
            return None
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(getattr(self, kind))

    async def _serve(self, context: Any) -> bytes:
        self.seen.append(dict(context.invocation_metadata()))
        self.deadlines.append(context.time_remaining())
        if self.failures:
            await context.abort(self.failures.pop(0), "flaky")
        if self.hold is not None:
            await self.hold.wait()
        return self.name.encode()

    async def unary_unary(self, request: bytes, context: Any) -> bytes:
        return await self._serve(context)

    async def unary_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield await self._serve(context)
        yield b"end"

    async def stream_unary(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        self.requests.append([request async for request in requests])
        return await self._serve(context)

    async def stream_stream(
        self, requests: AsyncIterator[bytes], context: Any
    ) -> AsyncIterator[bytes]:
        seen: list[bytes] = []
        self.requests.append(seen)
        async for request in requests:
            seen.append(request)
            if len(seen) == 2:
                yield await self._serve(context)


class Town:
    """Servers that come and go, and the registry that knows them; its channels' transport."""

    def __init__(self, stack: AsyncExitStack, transport: Transport = GRPCIO) -> None:
        self.transport = transport
        self.registry = MemoryRegistry()
        self._stack = stack
        self._servers: dict[str, Any] = {}
        self._registrations: dict[str, Any] = {}

    async def open(self, handler: Flaky, port: int = 0) -> int:
        server = grpc.aio.server(handlers=(handler,), options=(("grpc.so_reuseport", 0),))
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        self._stack.push_async_callback(server.stop, 0)
        self._servers[handler.name] = server
        await self.register(handler.name, bound)
        return bound

    async def register(self, name: str, port: int) -> None:
        instance = Instance("town", "127.0.0.1", port, id=name)
        self._registrations[name] = await self._stack.enter_async_context(
            self.registry.register(instance)
        )

    async def deregister(self, name: str) -> None:
        await self._registrations.pop(name).leave()

    async def stop(self, name: str) -> None:
        await self._servers.pop(name).stop(0)

    def channel(self, policy: Policy | None = None, **arguments: Any) -> Channel:
        arguments = {"transport": self.transport, "registry": self.registry, **arguments}
        return Channel("town", policy or Policy(), **arguments)


def method(channel: Any, kind: str = "unary_unary") -> Any:
    return getattr(channel, kind)(f"/town.Hall/{kind}")


async def ready(channel: Channel, *names: str) -> None:
    async with asyncio.timeout(5):
        while {m.id for m in channel.memory.pool.members.values() if m.ready} != set(names):
            await asyncio.sleep(0.005)


def reason(error: grpc.aio.AioRpcError) -> str:
    """The reason that the mesh gives for an error of its own."""
    assert isinstance(error, RpcFailed)
    for detail in rpc_status.from_call(error).details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            assert info.domain == "proxyless"
            return str(info.reason)
    raise AssertionError("no ErrorInfo")


async def eventually(predicate: Callable[[], object]) -> None:
    """Wait until something is so, at most for five seconds."""
    async with asyncio.timeout(5):
        while not predicate():
            await asyncio.sleep(0.005)
