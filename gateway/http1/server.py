"""
Accepts clients on a socket that listens already, so many at a time, until it is told to leave.

    async with serve_http(app, listening, ...) as server: ...
        await server.leave()     nobody new; who asks nothing hangs up, who is answered may end

Who is over the limit waits in the backlog of the kernel: neither refused nor any work.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

from gateway.http1.connection import Connection
from gateway.http1.framing import Dates

LOG = logging.getLogger(__name__)

# So many are accepted in one turn of the loop.
MOST_AT_ONCE = 64
# How long WebSockets may take to say goodbye once serving ends.
SOCKETS_SECONDS = 1.0
# s: without a file descriptor to be had, accepting waits so long.
EXHAUSTED_SECONDS = 0.5


class Application(Protocol):
    """What is served: an ASGI application that hears when serving ends."""

    stopping: asyncio.Event
    # Set while no WebSocket is open.
    silent: asyncio.Event

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class Server:
    """The clients of one socket; `connections` at most, each message of a WebSocket bounded."""

    def __init__(
        self,
        app: Application,
        listening: socket.socket,
        *,
        connections: int,
        unread_seconds: float,
        message_bytes: int,
    ) -> None:
        self.app = app
        self.loop = asyncio.get_running_loop()
        self.unread_seconds = unread_seconds
        self.message_bytes = message_bytes
        self.tasks: set[asyncio.Task[None]] = set()
        self._listening = listening
        self._most = connections
        self._connections: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._accepting = self._left = False
        self._dates = Dates()

    def date(self) -> bytes:
        """The Date header of now."""
        return self._dates.at(time.time())

    def joined(self, connection: Connection) -> None:
        """A client is connected."""
        self._connections.add(connection)
        if self._left:
            connection.leave()

    def left(self, connection: Connection) -> None:
        """A client has gone."""
        self._connections.discard(connection)
        self.accept()

    def accept(self) -> None:
        """Take clients, while there is room."""
        if not self._accepting and not self._left and self._room():
            self._accepting = True
            self.loop.add_reader(self._listening.fileno(), self._ready)

    def _pause(self) -> None:
        if self._accepting:
            self._accepting = False
            self.loop.remove_reader(self._listening.fileno())

    def _room(self) -> bool:
        return len(self._connections) + len(self._opening) < self._most

    def _ready(self) -> None:
        for _ in range(MOST_AT_ONCE):
            if not self._room():
                self._pause()
                return
            try:
                accepted, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptors left: whoever leaves gives one back
                LOG.warning("cannot accept: %s", error)
                self._pause()
                self.loop.call_later(EXHAUSTED_SECONDS, self.accept)
                return
            task = self.loop.create_task(self._open(accepted))
            self._opening.add(task)
            task.add_done_callback(self._opened)

    async def _open(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        try:
            await self.loop.connect_accepted_socket(lambda: Connection(self), accepted)
        except OSError as error:
            LOG.debug("a client left at once: %s", error)
            accepted.close()

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        self.accept()

    async def leave(self) -> None:
        """Take nobody new, and no new request of who is here."""
        if self._left:
            return
        self._pause()
        self._listening.close()
        self._left = True
        self.app.stopping.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(SOCKETS_SECONDS):
                await self.app.silent.wait()
        for connection in list(self._connections):
            connection.leave()

    async def close(self) -> None:
        """Hang up on who is still here."""
        await self.leave()
        for task in self._opening:
            task.cancel()
        for connection in list(self._connections):
            connection.abort()
        if self.tasks:
            _, late = await asyncio.wait(self.tasks, timeout=SOCKETS_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


@asynccontextmanager
async def serve_http(
    app: Application,
    listening: socket.socket,
    connections: int = 1000,
    *,
    unread_seconds: float = 10.0,
    message_bytes: int = 4 * 1024 * 1024,
) -> AsyncIterator[Server]:
    """
    Serve while the block runs; at most so many clients are connected at the same time.

    Who leaves what it is sent unread for `unread_seconds` is disconnected: by us while it is in
    our buffers, by the kernel once it is in its own.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # "transmitted data may remain unacknowledged, or buffered data may remain untransmitted
        # (due to zero window size)" - tcp(7); accepted connections inherit it.
        milliseconds = max(1, int(unread_seconds * 1000))
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    server = Server(
        app,
        listening,
        connections=connections,
        unread_seconds=unread_seconds,
        message_bytes=message_bytes,
    )
    server.accept()
    try:
        yield server
    finally:
        await server.close()
