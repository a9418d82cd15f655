"""
One request and its answer, as ASGI has them.

    Connection --fed, ended, left--> receive() --> application --> send() --> Connection.write

The first piece of a body is held back until the head can say how long it is: a whole answer leaves
in one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from http import HTTPStatus
from typing import Any, Protocol

from gateway.http1 import framing

Event = MutableMapping[str, Any]

# So much of a body is kept for an application that does not read it, before the client has to wait.
MOST_UNREAD = 64 * 1024
_BODILESS = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


class Wire(Protocol):
    """What a cycle needs of its connection."""

    def write(self, data: bytes) -> None: ...

    async def drained(self) -> None:
        """Wait while the client does not read."""

    def hold(self) -> None:
        """Read no more of the client for now."""

    def release(self) -> None:
        """Read on."""

    def date(self) -> bytes: ...

    def answered(self, cycle: Cycle) -> None:
        """The answer is written, whole."""


class Cycle:
    """A request; `last` says that its connection ends with it."""

    __slots__ = (
        *("_chunked", "_expects", "_held", "_pieces", "_size", "_start", "_told", "_torn"),
        *("_waiter", "_wire", "ended", "head_only", "last", "left", "new", "over", "scope"),
        "started",
    )

    def __init__(self, wire: Wire, scope: Event, *, last: bool, expects: bool) -> None:
        self.scope = scope
        self.last = last
        # HTTP/1.1, and not 1.0.
        self.new = scope["http_version"] == "1.1"
        self.head_only = scope.get("method") == "HEAD"
        # Whether the request has come whole, its client has left, its answer has begun.
        self.ended = self.left = self.started = False
        # Whether the answer is written, whole.
        self.over = False
        self._chunked = False
        self._wire = wire
        self._expects = expects
        self._pieces: list[bytes] = []
        self._size = 0
        self._held = False
        # Whether the rest of the body is nonsense, and whether the application knows its end.
        self._torn = self._told = False
        self._start: Event | None = None
        self._waiter: asyncio.Future[None] | None = None

    # -- what the connection says

    def fed(self, piece: bytes) -> None:
        """A piece of the body."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > MOST_UNREAD and not self._held:
            self._held = True
            self._wire.hold()
        self._wake()

    def end(self) -> None:
        """The request has come whole."""
        self.ended = True
        self._wake()

    def tear(self) -> None:
        """What should be the rest of the body is none; the client still waits for an answer."""
        self._torn = True
        self._wake()

    def leave(self) -> None:
        """The client has left."""
        self.left = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- ASGI

    async def receive(self) -> Event:
        """The next piece of the body; then, once the client leaves, that."""
        while True:
            if self._pieces or (self.ended and not self._told):
                return self._request()
            if self.left or self._torn:
                return {"type": "http.disconnect"}
            if self._expects:
                # "100 (Continue) [...] the client ought to send the remainder of the request"
                self._expects = False
                if not self.started:
                    self._wire.write(framing.CONTINUE)
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _request(self) -> Event:
        pieces, self._pieces, self._size = self._pieces, [], 0
        if self._held:
            self._held = False
            self._wire.release()
        self._told = self.ended
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return {"type": "http.request", "body": body, "more_body": not self.ended}

    async def send(self, event: Event) -> None:
        """Take the answer's head, then its body; nothing is sent to who has left."""
        if event["type"] == "http.response.start":
            self._start = event
            return
        if self.left:
            # Who sends piece after piece has to hear of it in between.
            await asyncio.sleep(0)
            return
        body, more = event.get("body", b""), event.get("more_body", False)
        data = b"" if self.started else self._head(len(body), more=more)
        if not self.head_only:
            data += framing.chunk(body) if self._chunked and body else body
            if self._chunked and not more:
                data += framing.LAST_CHUNK
        self._wire.write(data)
        if not more:
            self.over = True
            self._wire.answered(self)
        await self._wire.drained()

    def _head(self, size: int, *, more: bool) -> bytes:
        start, self._start, self.started = self._start, None, True
        if start is None:
            raise RuntimeError("a body before its http.response.start")
        status, headers = start["status"], list(start.get("headers", ()))
        names = {name for name, _ in headers}
        if (b"connection", b"close") in headers:
            self.last = True
        elif not self.ended:
            # What is still to come of the request is not worth waiting for.
            self.last = True
            headers.append((b"connection", b"close"))
        elif self.last and self.new:
            headers.append((b"connection", b"close"))
        if b"content-length" in names and status in _BODILESS:
            # "MUST NOT send a Content-Length header field in any response with a status code of
            # 1xx or 204" - RFC 9110, 8.6
            headers = [field for field in headers if field[0] != b"content-length"]
        elif b"content-length" not in names and status not in _BODILESS:
            if not more:
                headers.append((b"content-length", b"%d" % size))
            elif self.new:
                self._chunked = True
                headers.append((b"transfer-encoding", b"chunked"))
            else:
                self.last = True  # its end is the body's
        return framing.head(status, headers, self._wire.date())
