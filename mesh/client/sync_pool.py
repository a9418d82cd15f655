"""
The links of a channel that blocks: as `pool`, with grpc's own threads for what happens on them.

Snapshots come from the channel's background loop, states from grpc's threads, calls from anyone's;
what they share is changed under the driver's lock.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from discovery.model import Endpoint
from mesh.client.pool import READY, Options, merged, reachable

# grpc's own thread asks every 0.2 s whether anyone still subscribes, and dies with a traceback when
# the channel was closed meanwhile: it is given time to end first.
POLLER_SECONDS = 1.0
FAILED = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)


class SyncLink:
    """The connection to one endpoint, and how many calls are on it."""

    def __init__(
        self, endpoint: Endpoint, channel: grpc.Channel, lock: threading.RLock, changed: Any
    ) -> None:
        self.endpoint = endpoint
        self.callables: dict[Any, Any] = {}
        self.state: grpc.ChannelConnectivity = grpc.ChannelConnectivity.IDLE
        self._channel = channel
        self._changed = changed
        self._turned = threading.Condition(lock)
        self._calls = 0
        self._hurried = False
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

    @contextmanager
    def busy(self) -> Iterator[None]:
        """One more call is on the link."""
        with self._turned:
            self._calls += 1
        try:
            yield
        finally:
            with self._turned:
                self._calls -= 1
                self._turned.notify_all()

    def hurry(self) -> None:
        """Stop waiting for calls in flight."""
        with self._turned:
            self._hurried = True
            self._turned.notify_all()

    def close(self, grace: float) -> None:
        """Let calls in flight finish for `grace` seconds, then close."""
        with self._turned:
            self._turned.wait_for(lambda: self._calls == 0 or self._hurried, grace)
        self._channel.unsubscribe(self._turn)
        closing = threading.Timer(POLLER_SECONDS, self._channel.close)
        closing.daemon = True
        closing.start()

    def _turn(self, state: grpc.ChannelConnectivity) -> None:
        with self._turned:
            was, self.state = self.state, state
            self._turned.notify_all()
            if reachable(was) is not reachable(state):
                self._changed(self.endpoint, reachable(state))
        if state is grpc.ChannelConnectivity.IDLE:
            # Only a subscription can ask a blocking channel to connect again.
            self._channel.subscribe(_nobody, try_to_connect=True)
            self._channel.unsubscribe(_nobody)


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
        self.links: dict[str, SyncLink] = {}
        self._on_ready = on_ready
        self._lock = lock
        self._options = merged(options)
        self._credentials = credentials
        self._drain_seconds = drain_seconds
        self._draining: dict[asyncio.Future[None], SyncLink] = {}

    def follow(self, endpoints: Iterable[Endpoint]) -> None:
        """Connect to who is new, drain who is gone; on the background loop, under the lock."""
        wanted = {endpoint.id: endpoint for endpoint in endpoints}
        for name, link in list(self.links.items()):
            endpoint = wanted.get(name)
            if endpoint is not None and endpoint.address == link.endpoint.address:
                link.endpoint = endpoint
            else:
                del self.links[name]
                draining = asyncio.ensure_future(asyncio.to_thread(link.close, self._drain_seconds))
                self._draining[draining] = link
                draining.add_done_callback(self._draining.pop)
        for name, endpoint in wanted.items():
            if name not in self.links:
                self.links[name] = self._open(endpoint)

    def close(self) -> None:
        """Cut every link; what is in flight is cancelled."""
        with self._lock:
            links, self.links = list(self.links.values()), {}
            for draining in self._draining.values():
                draining.hurry()
        for link in links:
            link.close(0.0)

    def _open(self, endpoint: Endpoint) -> SyncLink:
        if self._credentials is None:
            channel = grpc.insecure_channel(endpoint.address, self._options)
        else:
            channel = grpc.secure_channel(endpoint.address, self._credentials, self._options)
        return SyncLink(endpoint, channel, self._lock, self._on_ready)


def _nobody(state: grpc.ChannelConnectivity) -> None:
    """Hears of a state that someone else watches."""
