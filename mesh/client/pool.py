"""
One real channel an endpoint, connected before it is picked, drained when its endpoint leaves.

grpc's own balancing, retries and shared subchannels are off: what they would do, the column does.
A link watches its channel's state for as long as it lives and asks it to reconnect, so that a
picker knows who is ready without asking the network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any, Literal

import grpc
import grpc.aio

from discovery.model import Endpoint
from mesh.client import health, renewal
from mesh.client.http2 import Http2Channel
from mesh.client.options import Options, merged

READY = grpc.ChannelConnectivity.READY
WAITING = (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING)

# What a link's unary calls run on: grpcio, or our own HTTP/2 where there is no TLS.
Transport = Literal["grpcio", "http2"]
GRPCIO: Transport = "grpcio"
HTTP2: Transport = "http2"


def reachable(state: grpc.ChannelConnectivity) -> bool | None:
    """Whether calls on a channel in this state get through; None while it is finding out."""
    return None if state in WAITING else state is READY


class Link:
    """The connection to one endpoint; `callables` holds grpc's multi-callables by who asked."""

    __slots__ = ("callables", "channel", "cut", "endpoint", "renewing", "watching")

    def __init__(self, endpoint: Endpoint, channel: grpc.aio.Channel) -> None:
        self.endpoint = endpoint
        self.channel = channel
        self.callables: dict[Any, Any] = {}
        # Set when what is still in flight here is about to be cancelled by us, not by the caller.
        self.cut = False
        self.watching: asyncio.Task[None] | None = None
        # What takes its place once this connection is old, from when it stands.
        self.renewing: asyncio.TimerHandle | None = None

    def age(self, seconds: float | None, renew: Callable[[Link], None]) -> None:
        """A connection has come to stand, to be renewed in so many seconds; None: it is gone."""
        if self.renewing is not None:
            self.renewing.cancel()
            self.renewing = None
        if seconds is not None:
            self.renewing = asyncio.get_running_loop().call_later(seconds, renew, self)

    async def connected(self, patient: bool) -> bool:
        """Wait for the connection: until it fails, or for ever when `patient`."""
        state = self.channel.get_state(try_to_connect=True)
        while state is not READY and (patient or state in WAITING):
            await self.channel.wait_for_state_change(state)
            state = self.channel.get_state(try_to_connect=True)
        return state is READY


class Pool:
    """All links of one channel; `on_ready(endpoint, ready)` hears of every change."""

    def __init__(
        self,
        on_ready: Callable[[Endpoint, bool | None], None],
        *,
        options: Options = (),
        credentials: grpc.ChannelCredentials | None = None,
        transport: Transport = GRPCIO,
        drain_seconds: float = 30.0,
    ) -> None:
        # Whose health each new connection is asked for; None asks for nobody's.
        self.health_check: str | None = None
        self.links: dict[str, Link] = {}
        self._on_ready = on_ready
        self._options = merged(options)
        self._credentials = credentials
        self._transport = transport
        self._drain_seconds = drain_seconds
        self._draining: set[asyncio.Task[None]] = set()
        self._renewing: set[asyncio.Task[None]] = set()
        self._rng = Random()

    def follow(self, endpoints: Iterable[Endpoint]) -> None:
        """Connect to who is new, drain who is gone, keep who stayed."""
        wanted = {endpoint.id: endpoint for endpoint in endpoints}
        for name, link in list(self.links.items()):
            endpoint = wanted.get(name)
            if endpoint is not None and endpoint.address == link.endpoint.address:
                link.endpoint = endpoint
            else:
                self._leave(self.links.pop(name))
        for name, endpoint in wanted.items():
            if name not in self.links:
                self.links[name] = self._open(endpoint)

    def ready(self) -> bool:
        """Whether any endpoint can be called right now."""
        return any(link.channel.get_state() is READY for link in self.links.values())

    async def close(self) -> None:
        """Cut every link; what is in flight is cancelled."""
        links, self.links = list(self.links.values()), {}
        ending = (*self._draining, *self._renewing)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        for link in links:
            await _close(link, 0.0)

    def _open(self, endpoint: Endpoint) -> Link:
        link = self._connect(endpoint)
        link.watching = asyncio.ensure_future(self._watch(link))
        return link

    def _connect(self, endpoint: Endpoint) -> Link:
        address, options = endpoint.address, self._options
        channel: grpc.aio.Channel
        if self._credentials is not None:
            channel = grpc.aio.secure_channel(address, self._credentials, options)
        elif self._transport == HTTP2:
            channel = Http2Channel(address, options)
        else:
            channel = grpc.aio.insecure_channel(address, options)
        return Link(endpoint, channel)

    def _renew(self, link: Link) -> None:
        if self.links.get(link.endpoint.id) is not link:
            return  # it has left, or the channel is closed
        task = asyncio.ensure_future(self._replace(link))
        self._renewing.add(task)
        task.add_done_callback(self._renewing.discard)

    async def _replace(self, link: Link) -> None:
        """Connect once more, and let the new connection take over where that comes to stand."""
        fresh, ready = self._connect(link.endpoint), False
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(renewal.PATIENCE):
                    ready = await fresh.connected(patient=False)
        finally:
            current = self.links.get(link.endpoint.id) is link
            if not (ready and current):
                await fresh.channel.close()
        if ready and current:
            fresh.endpoint = link.endpoint
            self.links[link.endpoint.id] = fresh
            fresh.watching = asyncio.ensure_future(self._watch(fresh))
            # What is under way there has as long as its server gives it.
            self._leave(link, renewal.age_of(link.endpoint))
        elif current:
            link.age(renewal.renewed_after(link.endpoint, self._rng), self._renew)

    async def _watch(self, link: Link) -> None:
        known: bool | None = None
        asking: asyncio.Task[None] | None = None
        try:
            while True:
                state = link.channel.get_state(try_to_connect=True)
                # READY after a change is a new connection, even where what lay between went unseen.
                if reachable(state) is not known or known:
                    if asking is not None:
                        asking.cancel()
                        asking = None
                    known = reachable(state)
                    age = renewal.renewed_after(link.endpoint, self._rng) if known else None
                    link.age(age, self._renew)
                    if known and self.health_check is not None:
                        # "the subchannel [...] stays in CONNECTING until the first response"
                        self._on_ready(link.endpoint, None)
                        say = partial(self._on_ready, link.endpoint)
                        asking = asyncio.ensure_future(
                            health.watch(link.channel, self.health_check, say)
                        )
                    else:
                        self._on_ready(link.endpoint, known)
                await link.channel.wait_for_state_change(state)
        finally:
            link.age(None, self._renew)
            if asking is not None:
                asking.cancel()

    def _leave(self, link: Link, seconds: float | None = None) -> None:
        grace = self._drain_seconds if seconds is None else max(seconds, self._drain_seconds)
        task = asyncio.ensure_future(_close(link, grace))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)


async def _close(link: Link, grace: float) -> None:
    """Let calls in flight finish for `grace` seconds, then close."""
    if link.watching is not None:
        link.watching.cancel()
    link.cut = True
    try:
        if grace:
            await link.channel.close(grace)
    finally:
        await link.channel.close()
