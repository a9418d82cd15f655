"""
The agent's door: connections, routes and refusals, straight on asyncio's sockets.

    door = Door(routes); await door.open(listener) ... await door.close()

A handler is a function of a request; it answers at once, or with a request that waits.  One request
of a connection is answered at a time and in order.  A client that does not read stops being read,
one that goes away ends what waits for it, and connections are bounded in number.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from posixpath import normpath
from typing import cast

from discovery.agent import wire
from discovery.agent.blocked import Blocked
from discovery.agent.go import Refused
from discovery.agent.wire import Parser, Request, Response, Unreadable

LOG = logging.getLogger(__name__)

MAX_CONNECTIONS = 4096
MAX_AHEAD = 256 * 1024
STOP_SECONDS = 1.0
READS = ("GET", "HEAD", "OPTIONS")
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)

Handler = Callable[[Request], Response | Blocked]
# Path -> method -> handler.  A path that ends in "/" is for everything below it.
Routes = Mapping[str, Mapping[str, Handler]]
_SLASHES = re.compile("//+")


class Door:
    """`routes` answered to everybody who connects."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._date = (0, "")

    async def open(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self), sock=listener, backlog=1024
        )

    async def close(self) -> None:
        """No more connections; what was written is sent, what still waits is not answered."""
        assert self._server is not None
        self._server.close()
        for connection in tuple(self._connections):
            connection.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await self._server.wait_closed()

    @property
    def date(self) -> str:
        """What the Date header says now; made once a second."""
        now = int(time.time())
        if self._date[0] != now:
            self._date = (now, _today(now))
        return self._date[1]

    def enter(self, connection: _Connection) -> bool:
        if len(self._connections) >= MAX_CONNECTIONS:
            return False
        self._connections.add(connection)
        return True

    def leave(self, connection: _Connection) -> None:
        self._connections.discard(connection)

    def answer(self, request: Request) -> Response | Blocked:
        """As Go's mux: the longest path that fits, moved paths told, methods listed."""
        clean = _clean(request.path)
        if clean != request.path:
            return _moved(request, clean)
        methods, start = self._find(clean)
        if methods is None:
            if clean + "/" in self._routes:
                return _moved(request, clean + "/")
            return Response(404)
        allowed = ",".join(["OPTIONS", *methods])
        if request.method == "OPTIONS":
            return Response(headers={"Allow": allowed})
        handler = methods.get(request.method)
        if handler is None:
            words = f"method {request.method} not allowed"
            return wire.text(405, words, {"Allow": allowed})
        request.rest = clean[start:]
        return handler(request)

    def _find(self, path: str) -> tuple[Mapping[str, Handler] | None, int]:
        found = self._routes.get(path)
        if found is not None:
            return found, len(path)
        end = path.rfind("/")
        while end > 0:
            found = self._routes.get(path[: end + 1])
            if found is not None:
                return found, end + 1
            end = path.rfind("/", 0, end)
        return None, 0


def _clean(path: str) -> str:
    if "//" not in path and "/." not in path:
        return path
    clean = normpath(_SLASHES.sub("/", path))
    return clean + "/" if path.endswith("/") and clean != "/" else clean


def _moved(request: Request, to: str) -> Response:
    if request.method not in ("GET", "HEAD"):
        return Response(301, headers={"Location": to})
    page = f'<a href="{to}">Moved Permanently</a>.\n\n'.encode()
    return Response(301, page, "text/html; charset=utf-8", {"Location": to})


class _Connection(asyncio.Protocol):
    def __init__(self, door: Door) -> None:
        self._door = door
        self._parser = Parser()
        self._transport: asyncio.Transport | None = None
        self._full = False
        self._paused = False
        self._waits: Blocked | asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Another loop's transports (uvloop's) are not asyncio's own class.
        self._transport = cast("asyncio.Transport", transport)
        if not self._door.enter(self):
            LOG.warning("more than %d connections: one was closed", MAX_CONNECTIONS)
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        self._serve()
        waits, transport = self._waits, self._transport
        if self._parser.size > MAX_AHEAD and waits is not None and transport is not None:
            transport.pause_reading()
            self._paused = True

    def eof_received(self) -> bool:
        return False  # who sends no more reads no more: Consul's clients do not half-close

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._door.leave(self)
        if self._waits is not None:
            self._waits.cancel()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._serve()

    def end(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _serve(self) -> None:
        """Answer what is there, until a request waits or the client does not read."""
        while self._waits is None and not self._full and self._transport is not None:
            try:
                request = self._parser.request()
            except Unreadable as refused:
                self._send(wire.text(refused.status, refused.text), None)
                return
            if request is None:
                if self._parser.continues():
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            try:
                answer = self._door.answer(request)
            except Exception as error:  # noqa: BLE001 - the edge where every error is an answer
                answer = _answer_to(error, request)
            if isinstance(answer, Blocked):
                self._waits = answer
                answer.begin(partial(self._answered, request))
            elif request.method in READS:
                self._send(answer, request)
            else:
                # Who waits for what was written hears of it first, who wrote it a turn later.
                loop = asyncio.get_running_loop()
                self._waits = loop.call_soon(self._answered, request, answer)

    def _answered(self, request: Request, found: Response | Exception) -> None:
        self._waits = None
        self._send(found if isinstance(found, Response) else _answer_to(found, request), request)
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        self._serve()

    def _send(self, response: Response, request: Request | None) -> None:
        if self._transport is None:
            return
        self._transport.write(response.encode(request, self._door.date))
        if request is None or not request.keep_alive:
            self._transport.close()
            self._transport = None


def _answer_to(error: Exception, request: Request) -> Response:
    if isinstance(error, Refused):
        return wire.text(error.status, error.text, error.headers)
    LOG.error("%s %s failed", request.method, request.path, exc_info=error)
    return wire.text(500, "the embedded agent failed; its log says how")


def _today(now: float) -> str:
    """A Date header, in English whatever the locale."""
    then = time.gmtime(now)
    day, month = DAYS[then.tm_wday], MONTHS[then.tm_mon - 1]
    return time.strftime(f"{day}, %d {month} %Y %H:%M:%S GMT", then)
