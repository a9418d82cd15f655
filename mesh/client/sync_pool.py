"""
The links of a channel that blocks: as `pool`, with grpc's own threads for what happens on them.

Snapshots come from the channel's background loop, states from grpc's threads, calls from anyone's;
what they share is changed under the driver's lock.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from random import Random
from typing import Any

import grpc

from discovery.model import Endpoint
from mesh.client import renewal
from mesh.client.options import Options, merged
from mesh.client.pool import READY, reachable
from mesh.client.sync_health import Watching

# grpc's own thread asks every 0.2 s whether anyone still subscribes, and dies with a traceback when
# the channel was closed meanwhile: it is given time to end first.
POLLER_SECONDS = 1.0
FAILED = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)


class SyncLink:
    """The connection to one endpoint, and how many calls are on it."""

    def __init__(
        self,
        endpoint: Endpoint,
        channel: grpc.Channel,
        lock: threading.RLock,
        changed: Any,
        health_check: str | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.callables: dict[Any, Any] = {}
        self.state: grpc.ChannelConnectivity = grpc.ChannelConnectivity.IDLE
        self._channel = channel
        self._changed = changed
        self._lock = lock
        # Whose health is watched while it stands; what was said last of whether it can be called.
        self._health_check = health_check
        self._watching: Watching | None = None
        self._known: bool | None = None
        self._turned = threading.Condition(lock)
        self._calls = 0
        self._idle: Callable[[], None] | None = None
        # What takes its place once this connection is old, from when it stands.
        self.renewing: asyncio.TimerHandle | None = None
        channel.subscribe(self._turn, try_to_connect=True)

    def callable(self, method: Any) -> Any:
        """grpc's multi-callable for a stub's method."""
        multi = self.callables.get(method)
        if multi is None:
            multi = self.callables[method] = method.on(self._channel)
        return multi

    def connected(self, patient: bool, seconds: float | None) -> bool:
        """Wait for the connection: until it fails, or for all of `seconds` when `patient`."""
        with self._turned:
            self._turned.wait_for(
                lambda: self.state is READY or (self.state in FAILED and not patient), seconds
            )
            return self.state is READY

    def begin(self) -> None:
        """One more call is on the link, until its `end`."""
        with self._lock:
            self._calls += 1

    def end(self) -> None:
        """It is not any more."""
        with self._lock:
            self._calls -= 1
            if self._calls == 0 and self._idle is not None:
                self._idle()

    def report_to(self, changed: Any) -> None:
        """Tell another who hears of each change, and of how things are."""
        with self._turned:
            self._changed = changed
            changed(self.endpoint, self._known)

    def when_idle(self, tell: Callable[[], None]) -> None:
        """Call `tell` once no call is on the link, now if none is."""
        with self._turned:
            self._idle = tell
            if self._calls == 0:
                tell()

    def close(self) -> None:
        """Close at once; what is in flight is cancelled."""
        self._channel.unsubscribe(self._turn)
        with self._lock:
            self._end_watch()
        closing = threading.Timer(POLLER_SECONDS, self._channel.close)
        closing.daemon = True
        closing.start()

    def _turn(self, state: grpc.ChannelConnectivity) -> None:
        with self._turned:
            was, self.state = self.state, state
            self._turned.notify_all()
            if reachable(was) is not reachable(state):
                self._end_watch()
                self._reached(reachable(state))
        if state is grpc.ChannelConnectivity.IDLE:
            # Only a subscription can ask a blocking channel to connect again.
            self._channel.subscribe(_nobody, try_to_connect=True)
            self._channel.unsubscribe(_nobody)

    def _reached(self, ready: bool | None) -> None:
        if not ready or self._health_check is None:
            self._say(ready)
            return
        # "the subchannel [...] stays in CONNECTING until the first response" - gRFC A17
        self._say(None)
        self._watching = Watching(self._channel, self._health_check, self._lock, self._say)

    def _say(self, ready: bool | None) -> None:
        self._known = ready
        self._changed(self.endpoint, ready)

    def _end_watch(self) -> None:
        if self._watching is not None:
            self._watching.end()
            self._watching = None


class SyncPool:
    """All links of one blocking channel; `on_ready(endpoint, ready)` runs under the lock."""

    def __init__(
        self,
        on_ready: Callable[[Endpoint, bool | None], None],
        lock: threading.RLock,
        *,
        options: Options = (),
        credentials: grpc.ChannelCredentials | None = None,
        drain_seconds: float = 30.0,
    ) -> None:
        # Whose health each new connection is asked for; None asks for nobody's.
        self.health_check: str | None = None
        self.links: dict[str, SyncLink] = {}
        self._on_ready = on_ready
        self._lock = lock
        self._options = merged(options)
        self._credentials = credentials
        self._drain_seconds = drain_seconds
        self._draining: dict[asyncio.Future[None], SyncLink] = {}
        self._renewing: set[asyncio.Task[None]] = set()
        self._rng = Random()
        # The channel's background loop, from the first snapshot on.
        self._loop: asyncio.AbstractEventLoop | None = None

    def follow(self, endpoints: Iterable[Endpoint]) -> None:
        """Connect to who is new, drain who is gone; on the background loop, under the lock."""
        self._loop = asyncio.get_running_loop()
        wanted = {endpoint.id: endpoint for endpoint in endpoints}
        for name, link in list(self.links.items()):
            endpoint = wanted.get(name)
            if endpoint is not None and endpoint.address == link.endpoint.address:
                link.endpoint = endpoint
            else:
                self._leave(self.links.pop(name), self._drain_seconds)
        for name, endpoint in wanted.items():
            if name not in self.links:
                self.links[name] = self._open(endpoint)

    def close(self) -> None:
        """Cut every link; what is in flight is cancelled."""
        with self._lock:
            links, self.links = list(self.links.values()), {}
            draining = list(self._draining)
        for link in links:
            link.close()
        if self._loop is not None and not self._loop.is_closed():
            for task in draining:
                self._loop.call_soon_threadsafe(task.cancel)

    def _leave(self, link: SyncLink, grace: float) -> None:
        _forget_age(link)
        draining = asyncio.ensure_future(_drained(link, grace))
        self._draining[draining] = link
        draining.add_done_callback(self._draining.pop)

    # -- connections that grow old; see mesh/client/renewal.py

    def _turned(self, endpoint: Endpoint, ready: bool | None) -> None:
        self._on_ready(endpoint, ready)
        if ready and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._age, endpoint.id)

    def _age(self, name: str) -> None:
        """A connection has come to stand: it is renewed in time."""
        link = self.links.get(name)
        if link is None:
            return
        _forget_age(link)
        seconds = renewal.renewed_after(link.endpoint, self._rng)
        if seconds is not None:
            link.renewing = asyncio.get_running_loop().call_later(seconds, self._renew, link)

    def _renew(self, link: SyncLink) -> None:
        if self.links.get(link.endpoint.id) is not link:
            return  # it has left, or the channel is closed
        task = asyncio.ensure_future(self._replace(link))
        self._renewing.add(task)
        task.add_done_callback(self._renewing.discard)

    async def _replace(self, link: SyncLink) -> None:
        """Connect once more, and let the new connection take over where that comes to stand."""
        with self._lock:
            fresh = self._open(link.endpoint, _unheard)
        taken = False
        try:
            ready = await asyncio.to_thread(fresh.connected, False, renewal.PATIENCE)
            with self._lock:
                taken = ready and self.links.get(link.endpoint.id) is link
                if taken:
                    fresh.endpoint = link.endpoint
                    self.links[link.endpoint.id] = fresh
                    link.report_to(_unheard)
                    fresh.report_to(self._turned)
        finally:
            if not taken:
                fresh.close()
        if taken:
            # What is under way there has as long as its server gives it.
            age = renewal.age_of(link.endpoint) or 0.0
            self._leave(link, max(age, self._drain_seconds))
        else:
            self._age(link.endpoint.id)

    def _open(self, endpoint: Endpoint, changed: Any = None) -> SyncLink:
        if self._credentials is None:
            channel = grpc.insecure_channel(endpoint.address, self._options)
        else:
            channel = grpc.secure_channel(endpoint.address, self._credentials, self._options)
        turned = changed or self._turned
        return SyncLink(endpoint, channel, self._lock, turned, self.health_check)


async def _drained(link: SyncLink, grace: float) -> None:
    """Close the link once no call is on it, or after `grace` seconds; no thread waits for that."""
    loop, idle = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(idle.set)

    try:
        link.when_idle(wake)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await idle.wait()
    finally:
        link.close()


def _forget_age(link: SyncLink) -> None:
    if link.renewing is not None:
        link.renewing.cancel()
        link.renewing = None


def _unheard(endpoint: Endpoint, ready: bool | None) -> None:
    """Nobody asks this connection's state, or nobody any more."""


def _nobody(state: grpc.ChannelConnectivity) -> None:
    """Hears of a state that someone else watches."""
