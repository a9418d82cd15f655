"""
One client's connection: bytes to requests, and their answers in the order of the requests.

    data_received --Parser--> Cycle, Cycle, ...     parsed as they come, answered one after another
                          --> Refusal               what is no request, after the answers
                          --> Socket                a WebSocket, from its handshake on

Two rules for who changes it: whoever is waited for has a time (a head HEAD_SECONDS, an answer that
is not read `unread_seconds`, a goodbye LINGER_SECONDS; a body has the application's), and nothing
is read of a client while there is more of his than is being answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway import request_id
from gateway.http1 import framing
from gateway.http1.cycle import Cycle
from gateway.http1.parsing import Parser, Refusal
from gateway.http1.socket import Socket, opens
from gateway.status import problem
from mesh.errors import Code

if TYPE_CHECKING:
    from gateway.http1.server import Server

LOG = logging.getLogger(__name__)

# s: who takes longer over a request's head, or asks nothing for so long, is closed.
HEAD_SECONDS = 10.0
# s: how long who is told that his connection ends may take to hear it.
LINGER_SECONDS = 1.0


class Connection(asyncio.Protocol):
    """A connection, among those of `server`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = server.loop
        self._transport: Any = None
        self._parser = Parser(self)
        # What was asked and is not answered: the first of it is being answered.
        self._asked: deque[Cycle | Refusal] = deque()
        # The request whose body is being read.
        self._reading: Cycle | None = None
        self._socket: Socket | None = None
        # Nothing more is heard of the client: it has said goodbye, or nonsense.
        self._deaf = False
        # The server has no more time for a next request.
        self._leaving = False
        # Who does not want to read on, and whether it is not read on.
        self._holds = 0
        self._stopped = False
        self._waits_since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._paused: asyncio.Future[None] | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._lingers = False

    # -- asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._client = transport.get_extra_info("peername")
        self._local = transport.get_extra_info("sockname")
        self._server.joined(self)
        self._waits_since = self._loop.time()
        self._timer = self._loop.call_later(HEAD_SECONDS, self._overdue)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deaf = True
        for timer in (self._timer, self._unread):
            if timer is not None:
                timer.cancel()
        if self._socket is not None:
            self._socket.leave()
        for asked in self._asked:
            if isinstance(asked, Cycle):
                asked.leave()
        self._resume()
        self._server.left(self)

    def data_received(self, data: bytes) -> None:
        if self._socket is not None:
            self._socket.fed(data)
        elif not self._deaf:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        try:
            rest = self._parser.feed(data)
            if rest is not None:
                self._upgraded(rest)
        except Refusal as refusal:
            self._refuse(refusal)
        self._flow()

    def _flow(self) -> None:
        """Read on, unless more was asked than is being answered or somebody holds it."""
        if self._holds or len(self._asked) > 1:
            if not self._stopped:
                self._stopped = True
                self._transport.pause_reading()
        elif self._stopped:
            self._stopped = False
            self._transport.resume_reading()

    # -- Sink

    def begun(self, scope: dict[str, Any], *, last: bool, expects: bool, upgrade: bool) -> None:
        """A request's head is here: it is answered once those before it are."""
        scope["client"], scope["server"] = self._client, self._local
        cycle = self._reading = Cycle(self, scope, last=last, expects=expects)
        self._asked.append(cycle)
        if len(self._asked) == 1 and not (upgrade and opens(scope)):
            self._answer(cycle)

    def fed(self, piece: bytes) -> None:
        """A piece of the body that is being read."""
        if self._reading is not None:
            self._reading.fed(piece)

    def ended(self) -> None:
        """The request that is being read has come whole."""
        cycle, self._reading = self._reading, None
        if cycle is not None:
            cycle.end()
            if cycle.last:
                self._deaf = True

    def _upgraded(self, rest: bytes) -> None:
        """What follows is another protocol, if it is one that is spoken here; HTTP if not."""
        cycle = self._asked[-1] if self._asked else None
        if isinstance(cycle, Cycle) and opens(cycle.scope):
            self._deaf = True  # for HTTP
            self._socket = Socket(self, cycle, rest, self._server.message_bytes)
            if self._asked[0] is cycle:
                self._answer(self._socket)
            return
        self._parser = Parser(self)
        if rest and not self._deaf:
            self._parse(rest)

    # -- answering

    def _answer(self, asked: Cycle | Socket) -> None:
        task = self._loop.create_task(self._server.app(asked.scope, asked.receive, asked.send))
        self._server.tasks.add(task)
        task.add_done_callback(partial(self._returned, asked))

    def _returned(self, asked: Cycle | Socket, task: asyncio.Task[None]) -> None:
        self._server.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.error("the application failed", exc_info=error)
        if not asked.over:
            # An answer that is not whole must not look whole: no last chunk, and the end.
            self._transport.close()

    def answered(self, cycle: Cycle) -> None:
        """The first of what was asked is answered: on to the next."""
        self._asked.popleft()
        if cycle.last or self._leaving:
            self._bye(linger=not cycle.ended)
            return
        self._next()

    def _next(self) -> None:
        if not self._asked:
            self._waits_since = self._loop.time()
            return
        asked = self._asked[0]
        if isinstance(asked, Refusal):
            self._say(asked)
        elif self._socket is not None and len(self._asked) == 1:
            self._answer(self._socket)
        else:
            self._answer(asked)
        self._flow()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what is no request, once what was asked before is answered; hear no more."""
        if self._deaf:
            return
        self._deaf = True
        if self._reading is not None:
            # Its body is torn: who reads it hears that nobody sends it any more.
            self._reading.tear()
            self._reading = None
            return
        self._asked.append(refusal)
        if len(self._asked) == 1:
            self._say(refusal)

    def _say(self, refusal: Refusal) -> None:
        if not refusal.status:
            self._bye()
            return
        shown = problem(
            Code.INVALID_ARGUMENT, refusal.message, reason=refusal.reason, http=refusal.status
        )
        media_type, body = shown.body("")
        headers = [
            (b"content-type", media_type.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"x-content-type-options", b"nosniff"),
            (b"server", b"proxyless"),
            (request_id.HEADER, request_id.made_up()),
            (b"connection", b"close"),
        ]
        self.write(framing.head(refusal.status, headers, self.date()) + body)
        self._bye(linger=True)

    # -- Wire

    def write(self, data: bytes) -> None:
        """Send bytes, if there is somebody to send them to."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def date(self) -> bytes:
        """The Date header of now."""
        return self._server.date()

    def hold(self) -> None:
        """Read no more of the client for now."""
        self._holds += 1
        self._flow()

    def release(self) -> None:
        """Read on, as far as that goes."""
        self._holds -= 1
        self._flow()

    async def drained(self) -> None:
        """Wait while the client does not read."""
        if self._paused is not None:
            await asyncio.shield(self._paused)

    def pause_writing(self) -> None:
        if self._paused is None:
            self._paused = self._loop.create_future()
            self._unread = self._loop.call_later(self._server.unread_seconds, self.abort)

    def resume_writing(self) -> None:
        self._resume()

    def _resume(self) -> None:
        paused, self._paused = self._paused, None
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        if paused is not None and not paused.done():
            paused.set_result(None)

    # -- the end

    def _overdue(self) -> None:
        """Close who has taken too long to ask; look again when it is too long for who asks next."""
        now = self._loop.time()
        waits = not self._asked and self._socket is None
        left = self._waits_since + HEAD_SECONDS - now if waits else HEAD_SECONDS
        if left > 0.001:
            self._timer = self._loop.call_later(left, self._overdue)
        elif self._parser.in_head:
            self._refuse(Refusal(408, "the request did not come in time", "REQUEST_TOO_SLOW"))
        else:
            self._transport.close()

    def leave(self) -> None:
        """Hang up once what was asked is answered."""
        self._leaving = True
        if not self._asked and self._socket is None:
            self._bye()

    def _bye(self, *, linger: bool = False) -> None:
        """
        Close, once all is sent.

        "close the connection in stages [...] the write side of the read/write connection [...]
        then continues to read" - RFC 9112, 9.6: else what was sent may never be read.
        """
        self._deaf = True
        if self._transport.is_closing():
            return
        if not linger:
            self._transport.close()
        elif not self._lingers:
            self._lingers = True
            if self._stopped:
                self._transport.resume_reading()
            if self._transport.can_write_eof():
                self._transport.write_eof()
            self._loop.call_later(LINGER_SECONDS, self._transport.close)

    def bye(self, seconds: float = 0.0) -> None:
        """A WebSocket is over; the client has so long to hear it."""
        self._loop.call_later(seconds, self._transport.close)

    def abort(self) -> None:
        """Hang up now."""
        if self._transport is not None:
            self._transport.abort()
