"""
A whole mesh in one process, for tests: a registry, real servers on loopback, faults between.

    async with Mesh() as mesh:
        node = await mesh.serve("orders", [Orders()])
        await mesh.serve("orders", [Orders()])                  # a second instance
        channel = await mesh.channel("orders", policy)
        node.link.set(latency=0.2)           # faults of its connections: mesh.testing.network
        node.crash()                         # still registered, connections reset
        await node.stop()                    # drained as in production

Everything is what production uses, the registry's medium excepted; each instance is registered
under the address of its link.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import grpc

from discovery.memory import MemoryRegistry
from discovery.model import Instance, Snapshot
from discovery.registry import Registration, Registry, Tags
from mesh.client.channel import Channel
from mesh.server.server import Server
from mesh.testing.network import Link, Network

if TYPE_CHECKING:
    from mesh.policy.config import Policy
    from mesh.sources import PolicySource


class Node:
    """One running instance."""

    def __init__(self, server: Server, links: list[Link], stack: AsyncExitStack) -> None:
        self.server = server
        self._links = links
        self._stack = stack

    @property
    def link(self) -> Link:
        """The way to this instance; set faults on it."""
        return self._links[0]

    @property
    def address(self) -> str:
        return self.link.address

    def crash(self) -> None:
        """Gone as by kill -9: connections reset, new ones refused, the registry none the wiser."""
        self.link.down()

    def recover(self) -> None:
        """Back at the same address."""
        self.link.up()

    async def stop(self) -> None:
        """Drain and stop; stopping twice is stopping once."""
        await self._stack.aclose()


class Mesh:
    """The registry, the network and all that was made with them; closed in reverse order."""

    def __init__(self, registry: Registry | None = None, *, seed: int = 0) -> None:
        self.registry: Registry = registry or MemoryRegistry()
        self.network = Network(seed)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.network)
        return self

    async def __aexit__(self, *why: object) -> None:
        await self._stack.aclose()

    async def serve(
        self,
        name: str,
        servicers: Sequence[object],
        *,
        instance: str = "",
        tags: Sequence[str] = ("grpc",),
        drain_seconds: float = 0.1,
        grace: float = 1.0,
        **options: Any,
    ) -> Node:
        """One more instance of `name`; `options` are Server's."""
        behind = _Behind(self.registry, self.network)
        server = Server(name, servicers, registry=behind, **options)
        stack = await self._stack.enter_async_context(AsyncExitStack())
        await stack.enter_async_context(
            server.serving(instance=instance, tags=tags, drain_seconds=drain_seconds, grace=grace)
        )
        return Node(server, behind.links, stack)

    async def channel(
        self, target: str, policy: Policy | PolicySource | None = None, **options: Any
    ) -> grpc.aio.Channel:
        """A mesh channel to `target`, closed with the mesh; `options` are Channel's."""
        channel = Channel(target, policy, registry=self.registry, **options)
        return await self._stack.enter_async_context(channel)


class _Behind:
    """A registry in which each instance stands behind a link of its own."""

    def __init__(self, registry: Registry, network: Network) -> None:
        self.links: list[Link] = []
        self._registry = registry
        self._network = network

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *why: object) -> None:
        """The registry belongs to the mesh."""

    def register(self, instance: Instance) -> AbstractAsyncContextManager[Registration]:
        return self._registered(instance)

    @asynccontextmanager
    async def _registered(self, instance: Instance) -> AsyncIterator[Registration]:
        link = self._network.link(f"{instance.host}:{instance.port}")
        self.links.append(link)
        async with self._registry.register(
            replace(instance, host=link.host, port=link.port)
        ) as registration:
            yield registration

    def watch(self, service: str, *, tag: str | None = None) -> AsyncIterator[Snapshot]:
        return self._registry.watch(service, tag=tag)

    def watch_services(self) -> AsyncIterator[Tags]:
        return self._registry.watch_services()
