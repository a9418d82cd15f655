"""
One address, kept connected: its state, its connection, and the way back to it.

    IDLE --connect--> CONNECTING --SETTINGS--> READY --GOAWAY, loss--> IDLE
                          |    ^
                   failed |    | backoff over
                          v    |
                  TRANSIENT_FAILURE          SHUTDOWN: closed, from anywhere

As in gRPC's connectivity semantics, TRANSIENT_FAILURE stays until READY, however often it is tried.
A connection that has said GOAWAY is left to those who are on it; the next is another one.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Any

from mesh.policy.backoff import Backoff
from mesh.transport.connection import Connection
from mesh.transport.dialing import Dialed, dial
from mesh.transport.frames import ErrorCode, ProtocolError

LOG = logging.getLogger(__name__)


# gRPC's own but for the first pause and the longest: discovery says who is gone, so while an
# address is listed it is worth asking often.
BACKOFF = Backoff(base=0.1, cap=3.0, multiplier=1.6, jitter=0.2)
USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)
NEVER = float("-inf")
# How long a peer has to read what was written to it before we hung up.
PARTING_SECONDS = 5.0


class State(Enum):
    """gRPC's connectivity states."""

    IDLE = "idle"
    CONNECTING = "connecting"
    READY = "ready"
    TRANSIENT_FAILURE = "transient failure"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How an address is connected to; times in seconds, sizes in bytes."""

    # From the start of one attempt to connect to the start of the next.
    backoff: Backoff = BACKOFF
    # How long an attempt may take, unless the pause after it is longer.
    connect_timeout: float = 5.0
    # Silence on a connection with calls on it after which a PING is sent, and how long its answer
    # is waited for.
    keepalive_time: float = 310.0
    keepalive_timeout: float = 20.0
    largest_reply: int = 4 * 1024 * 1024
    largest_headers: int = 16 * 1024


class Subchannel:
    """The connection to `address`, "host:port" or "unix:path"; of the running event loop."""

    def __init__(
        self,
        address: str,
        settings: Settings | None = None,
        *,
        on_state: Callable[[State], None] = lambda state: None,
        rng: Random | None = None,
    ) -> None:
        self.address = address
        self.settings = settings or Settings()
        self.state = State.IDLE
        self._on_state = on_state
        # Where calls are made: none unless READY.
        self.connection: Connection | None = None
        # Why the last attempt to connect came to nothing.
        self.trouble = ""
        self._rng = rng or Random()
        self._sockets: set[_Socket] = set()
        self._connecting: asyncio.Task[None] | None = None
        self._watchers: set[asyncio.Future[None]] = set()
        # Doubled by a server that finds our pings too many.
        self._keepalive_time = self.settings.keepalive_time

    def connect(self) -> None:
        """Leave IDLE: connect now, and again after each failure, until READY."""
        if self.state is State.IDLE and self._connecting is None:
            self._connecting = asyncio.ensure_future(self._connect())

    async def changed(self, last: State) -> None:
        """Wait until the state is another than `last`."""
        while self.state is last:
            waiter = asyncio.get_running_loop().create_future()
            self._watchers.add(waiter)
            try:
                await waiter
            finally:
                self._watchers.discard(waiter)

    def close(self) -> None:
        """Take no call more, and hang up."""
        self.shut()
        for each in list(self._sockets):
            each.abandon("the channel is closed")

    def shut(self) -> None:
        """Take no call more; what is out goes on."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        self.connection = None
        self._enter(State.SHUTDOWN)

    # -- connecting

    async def _connect(self) -> None:
        settings = self.settings
        failures = 0
        while True:
            if not failures:
                self._enter(State.CONNECTING)
            failures += 1
            pause = settings.backoff.delay(failures, self._rng)
            began = asyncio.get_running_loop().time()
            try:
                seconds = max(pause, settings.connect_timeout)
                async with asyncio.timeout(seconds):
                    opened = await self._open()
                break
            except (OSError, ValueError, OverflowError) as error:  # the latter: no address at all
                self.trouble = str(error) or f"no HTTP/2 within {seconds:g} s"
                LOG.debug("%s: not connected: %s", self.address, self.trouble)
            self._enter(State.TRANSIENT_FAILURE)
            # "SleepUntil(current_deadline)", which counts from the start - gRPC connection backoff
            await asyncio.sleep(max(0.0, began + pause - asyncio.get_running_loop().time()))
        self._connecting = None
        self.connection = opened.connection
        self._enter(State.READY)

    async def _open(self) -> _Socket:
        """A connection whose server has sent its SETTINGS."""
        opened = await dial(self.address, lambda: _Socket(self, self._keepalive_time))
        try:
            await opened.ready
            if not opened.connection.open:
                raise ConnectionError("the server went away as soon as it had come")
        except BaseException:
            opened.abandon("not connected")
            raise
        return opened

    def joined(self, opened: _Socket) -> None:
        """A socket is open."""
        self._sockets.add(opened)

    def left(self, opened: _Socket, *, calm: bool = False) -> None:
        """A connection takes no call any more; `calm` when it was we who asked too often."""
        if calm:
            self._keepalive_time *= 2
        if self.connection is opened.connection:
            self.connection = None
            self._enter(State.IDLE)

    def parted(self, opened: _Socket) -> None:
        """A socket is closed."""
        self._sockets.discard(opened)

    def _enter(self, state: State) -> None:
        if state is not self.state and self.state is not State.SHUTDOWN:
            self.state = state
            self._on_state(state)
            for waiter in self._watchers:
                if not waiter.done():
                    waiter.set_result(None)


class _Socket(Dialed):
    """Moves the bytes of one connection; what a turn of the loop writes leaves as one write."""

    def __init__(self, subchannel: Subchannel, keepalive_time: float) -> None:
        settings = subchannel.settings
        self._loop = asyncio.get_running_loop()
        self._subchannel = subchannel
        self._settings = settings
        self._keepalive_time = keepalive_time
        self._transport: Any = None
        self._keepalive: asyncio.TimerHandle | None = None
        # What ends a connection that is closing and does not come to its end.
        self._parting: asyncio.TimerHandle | None = None
        self._read_at = 0.0
        self._broken: str = ""
        # Done once the server has greeted, or the attempt is over.
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.connection = Connection(
            self,
            largest_reply=settings.largest_reply,
            largest_headers=settings.largest_headers,
        )

    # -- asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        open_socket = transport.get_extra_info("socket")
        if USER_TIMEOUT is not None and open_socket.family != socket.AF_UNIX:
            # What notices, long before a ping is due, that nobody takes our bytes: gRFC A18.
            milliseconds = int(self._settings.keepalive_timeout * 1000)
            open_socket.setsockopt(socket.IPPROTO_TCP, USER_TIMEOUT, milliseconds)
        transport.write(self.connection.out())
        self._subchannel.joined(self)
        self._read_at = self._loop.time()
        self._watch(self._keepalive_time)

    def data_received(self, data: bytes) -> None:
        self._read_at = self._loop.time()
        connection = self.connection
        try:
            connection.receive(data)
        except ProtocolError as error:
            self._broken = f"the server broke HTTP/2: {error}"
            LOG.warning("%s: %s", self._subchannel.address, self._broken)
            # Its calls may be made again at once: that has to be elsewhere.
            self._subchannel.left(self)
            connection.broken(error)
            connection.lost(self._broken)
            self._flush()
            self._hang_up()
            return
        if not connection.open:
            self._hang_up_when_idle()

    def pause_writing(self) -> None:
        self.connection.pause()

    def resume_writing(self) -> None:
        self.connection.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        why = self._broken or (f"the connection broke: {exc}" if exc else "the server hung up")
        for timer in (self._keepalive, self._parting):
            if timer is not None:
                timer.cancel()
        self._subchannel.left(self)
        self._subchannel.parted(self)
        self.connection.lost(why)
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(why))
            self.ready.exception()  # perhaps nobody waits for it any more

    # -- Owner

    def wake(self) -> None:
        self._loop.call_soon(self._flush)

    def greeted(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)

    def going(self, code: int, debug: bytes) -> None:
        calm = code == ErrorCode.ENHANCE_YOUR_CALM and debug == b"too_many_pings"
        if calm:
            # "the client should log the occurrence [...] and double the configured KEEPALIVE_TIME"
            #                                                                         - gRFC A8
            LOG.warning("%s: too many pings; half as often from now", self._subchannel.address)
        self._subchannel.left(self, calm=calm)

    # -- what the subchannel does

    def abandon(self, why: str) -> None:
        """Hang up now."""
        self._broken = self._broken or why
        if self._transport is not None:
            with suppress(OSError):
                self._transport.abort()

    # -- bytes and silence

    def _flush(self) -> None:
        data = self.connection.out()
        if data and not self._transport.is_closing():
            self._transport.write(data)
        if not self.connection.open:
            self._hang_up_when_idle()

    def _hang_up_when_idle(self) -> None:
        if self.ready.done() and self.connection.idle and self._transport is not None:
            self._hang_up()

    def _hang_up(self) -> None:
        """Close once what is written has gone; a peer that reads no more has so long for it."""
        if self._parting is None:
            self._transport.close()
            self._parting = self._loop.call_later(PARTING_SECONDS, self._transport.abort)

    def _watch(self, seconds: float) -> None:
        self._keepalive = self._loop.call_later(seconds, self._silent)

    def _silent(self) -> None:
        """Ask for a sign of life after a time without one, while calls are out."""
        left = self._read_at + self._keepalive_time - self._loop.time()
        if left > 0.001 or not self.connection.streams:
            self._watch(max(left, 0.001) if left > 0.001 else self._keepalive_time)
            return
        self.connection.ping()
        # Not compared with the time of asking: an answer may come within one tick of the clock.
        self._read_at = NEVER
        self._keepalive = self._loop.call_later(self._settings.keepalive_timeout, self._answered)

    def _answered(self) -> None:
        if self._read_at != NEVER:
            self._watch(self._keepalive_time)
            return
        # "the transport is closed, and the calls on it fail with UNAVAILABLE" - gRFC A8
        self._broken = "no sign of life from the server (keepalive)"
        self._transport.abort()
