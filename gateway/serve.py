"""
The gateway put together: registry, channels, discovery, pages, and the HTTP server in this loop.

    async with Gateway(registry).serving(port=0) as url: ...
    await Gateway(registry).run(port=8080)                      # until SIGTERM or SIGINT

Stopping: no new connection, /readyz 503, streams end with an error element, the requests being
served get `drain_seconds`; then the channels close.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import replace
from functools import cached_property, partial
from ipaddress import ip_address
from typing import Any

from discovery.registry import Registry
from gateway.admin import Admin, shown
from gateway.app import App
from gateway.catalog import Version, catalog
from gateway.compose import Handler, PageRoute
from gateway.cors import Cors
from gateway.discover import TAG, Following
from gateway.exchange import Answer
from gateway.guard import Guard
from gateway.http1.server import Server, serve_http
from gateway.listen import ListenError, listen, url_of
from gateway.metrics import GatewayMetrics, up
from gateway.peers import Peers
from gateway.settings import Limits
from gateway.strangler import operating
from gateway.strangler.strangler import Strangler
from gateway.together import Together
from gateway.upstream import Upstream
from mesh.policy.config import Policy
from mesh.telemetry.figures import Figures, restored
from mesh.telemetry.prometheus import exposition

log = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0
# How long a worker learns what there is to serve before it takes whoever waits at its socket.
LEARN_SECONDS = 5.0
ADMIN_CONNECTIONS = 100


class Gateway:
    """REST for every service of a registry."""

    def __init__(
        self,
        registry: Registry,
        policy: Policy | None = None,
        *,
        limits: Limits | None = None,
        admin: tuple[str, int] | None = None,
        guard: Guard | None = None,
        cors: Cors | None = None,
        strangler: Strangler | None = None,
        together: Together | None = None,
        measured: bool | None = None,
    ) -> None:
        """`measured`: whether it counts what it does; unless told, where it has an admin port."""
        self.limits = limits or Limits()
        self.app = App(self.limits, guard, cors)
        if admin is not None if measured is None else measured:
            self.app.metrics = GatewayMetrics()
        self._peers = Peers(together or Together(), self._told)
        self._admin_at = admin
        self._guard = guard
        self._cors = cors
        self._strangler = strangler
        self._registry = registry
        # Each call brings its own deadline; a stream may well be open for longer than any default.
        self._policy = policy or replace(Policy.production(), timeout=None)
        self._pages: list[PageRoute] = []
        self._versions: dict[str, Sequence[Version]] = {}
        self._conflicts: set[str] = set()
        self._channels: dict[str, Upstream] = {}
        self._entered: set[str] = set()
        self._answered = False
        self._learnt = asyncio.Event()

    # -- what pages are made with

    def get(self, path: str) -> Callable[[Handler], Handler]:
        """Register a page; see gateway.compose."""

        def register(handler: Handler) -> Handler:
            self._pages.append(PageRoute(path, handler))
            self._publish()
            return handler

        return register

    def channel(self, service: str) -> Upstream:
        """The mesh channel to `service`, open while the gateway serves; stubs may be made now."""
        if service not in self._channels:
            metrics = self.app.metrics
            emitting = metrics.client if metrics is not None else None
            self._channels[service] = Upstream(service, self._policy, self._registry, emitting)
        return self._channels[service]

    # -- serving

    async def run(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        started: Callable[[str], None] = log.info,
        listening: socket.socket | None = None,
        until: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """
        Serve until SIGTERM or SIGINT, then drain; `started` is told the URL.

        `until` returning stops it too.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        try:
            async with self.serving(host, port, listening) as url:
                started(url)
                ends: list[asyncio.Future[Any]] = [asyncio.ensure_future(stop.wait())]
                if until is not None:
                    ends.append(asyncio.ensure_future(until()))
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for end in ends:
                    end.cancel()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    @asynccontextmanager
    async def serving(
        self, host: str = "127.0.0.1", port: int = 0, listening: socket.socket | None = None
    ) -> AsyncIterator[str]:
        """
        The URL it is served at, on a free port unless told; ListenError when it is taken.

        A socket that listens already is taken over; who waits there is let in once there is
        something to serve, and after LEARN_SECONDS in any case.
        """
        async with AsyncExitStack() as stack:
            inherits = listening is not None
            listening = stack.enter_context(closing(listening or listen(host, port)))
            await stack.enter_async_context(self._peers.listening())
            if self._admin_at is not None:
                await stack.enter_async_context(self._administered(*self._admin_at))
            await stack.enter_async_context(self._following())
            if self._guard is not None:
                await stack.enter_async_context(self._guard.following())
            if self._strangler is not None:
                strangling = self._strangler.running(self._publish, self._shadowing)
                await stack.enter_async_context(strangling)
            if inherits:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._learnt.wait(), LEARN_SECONDS)
            limits = self.limits
            http = serve_http(
                self.app,
                listening,
                limits.connections,
                unread_seconds=limits.write_seconds,
                message_bytes=limits.body_bytes,
            )
            server = await stack.enter_async_context(http)
            stack.push_async_callback(self._drain, server)
            yield url_of(host, listening)

    @asynccontextmanager
    async def _administered(self, host: str, port: int) -> AsyncIterator[None]:
        """The admin port, which outlives the public one so that a stop can be watched."""
        with closing(listen(host, port)) as listening:
            self.admin.loopback = ip_address(listening.getsockname()[0]).is_loopback
            async with serve_http(self.admin, listening, ADMIN_CONNECTIONS):
                self.app.admin_url = f"{url_of(host, listening)}/"
                yield

    @cached_property
    def admin(self) -> Admin:
        """The admin port's application; what is added to it is served when there is such a port."""
        admin = Admin(lambda: self.app.catalog, self._configuration)
        if (strangler := self._strangler) is not None:
            admin.add("/admin/strangler", self._strangled)
            admin.accept("/admin/strangler", partial(operating.ordered, strangler))
        if self.app.metrics is not None:
            admin.add("/metrics", self._measured)
        return admin

    def _configuration(self) -> dict[str, Any]:
        return {
            "limits": self.limits,
            "policy": self._policy,
            "guard": self._guard.shown() if self._guard else {},
            "cors_origins": sorted(self._cors.origins) if self._cors else [],
        }

    def _figures(self) -> Figures:
        if self.app.metrics is None:
            return Figures()
        shifts = self._strangler.shifts if self._strangler is not None else {}
        return self.app.metrics.now(self.app.serving, shifts)

    def _told(self) -> dict[str, Any]:
        """What this worker knows, for the one with the admin port to add."""
        strangled = operating.told(self._strangler) if self._strangler is not None else {}
        return {"figures": self._figures().snapshot(), "strangler": strangled}

    async def _measured(self, accept: str) -> Answer:
        """/metrics: every worker's figures, beside each other."""
        figures, missing = {self._peers.own: self._figures()}, []
        for worker, told in (await self._peers.ask()).items():
            if told is None:
                missing.append(worker)
            else:
                figures[worker] = restored(told["figures"])
        content_type, body = exposition(up(figures, missing), accept)
        return Answer(200, [(b"content-type", content_type.encode())], body)

    async def _strangled(self, _: str) -> Answer:
        """/admin/strangler: what all workers have counted, added up."""
        assert self._strangler is not None
        told = [each["strangler"] for each in (await self._peers.ask()).values() if each]
        return shown(operating.report(self._strangler, told))

    async def _drain(self, server: Server) -> None:
        """Let nobody connect any more, and what is being served end."""
        await server.leave()
        try:
            async with asyncio.timeout(self.limits.drain_seconds):
                await self.app.idle.wait()
        except TimeoutError:
            log.warning("requests were cut off after %g s", self.limits.drain_seconds)

    @asynccontextmanager
    async def _following(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            self._stack = stack
            await asyncio.gather(*map(self._open, list(self._channels)))
            task = asyncio.create_task(self._watch())
            try:
                yield
            finally:
                task.cancel()
                await asyncio.wait([task])

    async def _watch(self) -> None:
        while True:
            try:
                await self._follow_all()
            except* Exception:  # without discovery the gateway would serve yesterday for ever
                log.exception("following the registry failed")
            await asyncio.sleep(AGAIN_SECONDS)

    async def _follow_all(self) -> None:
        """Follow every service with the tag; one that cannot be followed is tried again."""
        async with asyncio.TaskGroup() as tasks:
            followed: set[str] = set()
            async for services in self._registry.watch_services():
                self._answered = True
                self._publish()
                for name, tags in services.items():
                    if TAG in tags and name not in followed:
                        followed.add(name)
                        tasks.create_task(self._follow(name))
                if not followed:  # there is nothing to learn
                    self._learnt.set()

    async def _follow(self, name: str) -> None:
        channel = await self._open(name)
        while True:
            try:
                await Following(name, self._registry, channel, self._know).run()
            except* Exception:  # discovery must outlive what it does not understand
                log.exception("%s: following it failed", name)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _open(self, service: str) -> Upstream:
        channel = self.channel(service)
        if service not in self._entered:
            self._entered.add(service)
            await self._stack.enter_async_context(channel)
        return channel

    async def _shadowing(self, service: str) -> Upstream:
        """A channel for calls that nobody waits for: apart from the others in all it remembers."""
        policy = replace(Policy.production(), timeout=None, retry=None)
        return await self._stack.enter_async_context(Upstream(service, policy, self._registry))

    def _know(self, service: str, versions: Sequence[Version]) -> None:
        if self._versions.get(service) != versions:
            self._versions[service] = versions
            self._publish()

    def _publish(self) -> None:
        made = catalog(self._pages, self._versions, self._conflicts, answered=self._answered)
        if self._strangler is not None:
            self._strangler.attach(made)
        self.app.catalog = made
        if made.ready:
            self._learnt.set()


__all__ = ["Gateway", "ListenError"]
