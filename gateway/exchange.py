"""
One HTTP request and its answer, above ASGI and below everything that knows gRPC.

The body is read under limits before any work is done for it.  While a call runs, `watched` looks
whether the client is still there: see gateway.watched.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gateway import headers, request_id
from gateway.body import Arriving, Receive, too_large
from gateway.invalid import Invalid
from gateway.settings import Limits
from gateway.status import Problem, problem
from gateway.watched import Watched
from mesh.errors import Code
from mesh.identity.caller import Saying

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]

JSON: RawHeaders = [(b"content-type", b"application/json")]
# "application/x-www-form-urlencoded" is what `curl -d` says, whatever it sends.
JSON_TYPES = frozenset({"", "application/json", "text/json", "application/x-www-form-urlencoded"})
NDJSON_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
# What gRPC servers take as metadata unless they are told otherwise, less what it adds itself.
METADATA_BYTES = 7 * 1024
# So much a compressed body may hold whatever its ratio.
INFLATED_BYTES = 64 * 1024


@dataclass(slots=True)
class Answer:
    """What goes back; a `body` that is no bytes is sent piece by piece, each at once."""

    status: int = 200
    headers: RawHeaders = field(default_factory=list)
    body: bytes | AsyncIterator[bytes] = b""


class Exchange:
    """A request as it came, and what can be asked of it."""

    __slots__ = (
        *(
            "_look",
            "_receive",
            "_values",
            "entry",
            "head_bytes",
            "headers",
            "limits",
            "method",
            "path",
            "principal",
        ),
        *("query", "request_id", "saying", "scope", "stopping", "streams"),
    )

    def __init__(
        self, scope: Scope, receive: Receive, limits: Limits, stopping: asyncio.Event
    ) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        # The path as it was sent: "%2F" and "/" are different things until the route is known.
        self.path: str = scope["raw_path"].decode("latin-1")
        self.query: str = scope["query_string"].decode("latin-1")
        self.headers: RawHeaders
        self.request_id, self.headers = request_id.settled(scope["headers"])
        self.limits = limits
        self.stopping = stopping
        # How large the headers are, once they are looked at.
        self.head_bytes = 0
        # Who asks, once gateway.guard has found out; "" is nobody in particular.
        self.principal = ""
        # What the calls made for it say of who asks.
        self.saying: Saying | None = None
        # What the router found for it: where its figures go.
        self.entry: Any = None
        # Whether it holds one of the places for streams.
        self.streams = False
        self._receive = receive
        # The headers by name, once one is asked for.
        self._values: dict[bytes, bytes] | None = None
        # Who looks whether the client leaves, once somebody has to.
        self._look: asyncio.Task[None] | None = None

    def header(self, name: bytes) -> str:
        """The header's values, joined; "" when it is not there. `name` is in small letters."""
        if self._values is None:
            values: dict[bytes, bytes] = {}
            for key, value in self.headers:
                values[key] = values[key] + b", " + value if key in values else value
            self._values = values
        return self._values.get(name, b"").decode("latin-1")

    @property
    def client(self) -> str:
        """The address of who is connected."""
        client = self.scope.get("client")
        return str(client[0]) if client else "unknown"

    @property
    def accept(self) -> str:
        return self.header(b"accept").lower()

    @property
    def media_type(self) -> str:
        return self.header(b"content-type").partition(";")[0].strip().lower()

    def metadata(self) -> headers.Metadata:
        """What the service is told of the request's headers."""
        found = headers.metadata(self.headers, self.client)
        if self.saying is not None:
            found.extend(self.saying())
        # gRPC would say RESOURCE_EXHAUSTED, which is 429, to what it has no room for.
        if self.head_bytes > METADATA_BYTES / 2 and headers.size(found) > METADATA_BYTES:
            raise too_many_headers(METADATA_BYTES)
        return found

    def timeout(self, default: float | None) -> float | None:
        """How many seconds the call may take."""
        asked = headers.timeout(self.headers)
        return default if asked is None else min(asked, self.limits.max_timeout)

    async def body(self, *, raw: bool = False) -> bytes:
        """The whole body, or the Problem that it is; JSON unless `raw`."""
        body = await self.raw_body()
        if body and not raw:
            media_type = self.media_type
            if media_type not in JSON_TYPES and not media_type.endswith("+json"):
                raise unsupported(f"a body of {media_type!r} is not read here: send JSON")
        return self._unpacked(body)

    async def raw_body(self) -> bytes:
        """The whole body as it came, compressed or not, within the same limits."""
        if not self._has_body():
            return b""
        arriving = self._arriving(self.limits.body_bytes)
        body = await arriving.piece() or b""
        if arriving.more:
            pieces = [body]
            while (piece := await arriving.piece()) is not None:
                pieces.append(piece)
            body = b"".join(pieces)
        return body

    async def begun(self, most: int) -> tuple[list[bytes], Arriving | None]:
        """The pieces of the body: all, or `most` bytes of it and what is still arriving."""
        if not self._has_body():
            return [], None
        arriving, pieces, size = self._arriving(self.limits.body_bytes), list[bytes](), 0
        while size < most:
            if (piece := await arriving.piece()) is None:
                return pieces, None
            pieces.append(piece)
            size += len(piece)
        return pieces, arriving if arriving.more else None

    def unread(self, body: bytes) -> None:
        """Put a body that was read whole back, to be read once more."""
        receive = self._receive
        events = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> MutableMapping[str, Any]:
            return events.pop() if events else await receive()

        self._receive = again

    def _has_body(self) -> bool:
        """Whether the headers announce a body; HTTP/2 may send one unannounced."""
        if not self.scope.get("http_version", "").startswith("1"):
            return True
        return bool(self.header(b"content-length") or self.header(b"transfer-encoding"))

    async def pieces(self, limit: int | None) -> AsyncIterator[bytes]:
        """
        The body as it arrives: at most `limit` bytes, all of it within body_seconds.

        Without a limit it is a stream, and each piece has body_seconds.
        """
        arriving = self._arriving(limit)
        while (piece := await arriving.piece()) is not None:
            if piece:
                yield piece

    def _arriving(self, limit: int | None) -> Arriving:
        length = self.header(b"content-length")
        announced = int(length) if length.isdigit() else None
        patient = not self.header(b"expect")  # who waits for 100-continue reads
        seconds = self.limits.body_seconds
        return Arriving(self._receive, limit, announced, seconds, lingers=patient)

    def _unpacked(self, body: bytes) -> bytes:
        encoding = self.header(b"content-encoding").strip().lower()
        if encoding in ("", "identity"):
            return body
        if encoding not in ("gzip", "x-gzip"):  # "equivalent to "gzip"" -- RFC 9110 8.4.1.3
            raise unsupported(
                f"content-encoding {encoding!r} is not read here", ("accept-encoding", "gzip")
            )
        limit = min(
            self.limits.body_bytes, max(INFLATED_BYTES, len(body) * self.limits.inflate_ratio)
        )
        inflate = zlib.decompressobj(wbits=31)
        try:
            plain = inflate.decompress(body, limit + 1)
        except zlib.error as error:
            raise Invalid("the body is not gzip", reason="INVALID_ENCODING") from error
        if len(plain) > limit < self.limits.body_bytes:
            raise problem(
                Code.INVALID_ARGUMENT,
                f"the body holds more than {self.limits.inflate_ratio} times its own size",
                reason="BODY_TOO_DENSE",
                http=413,
            )
        if len(plain) > limit:  # never inflated further than this
            raise too_large(limit)
        if not inflate.eof or inflate.unused_data:
            raise Invalid("the body is not whole gzip", reason="INVALID_ENCODING")
        return plain

    def watched(
        self, after: float | None = None, body_read: asyncio.Event | None = None
    ) -> Watched:
        """
        Cancel the block when the client leaves; it is looked for `after` seconds (leave_seconds).

        Where the block reads the body itself, `body_read` says when it is done with that.
        """
        return Watched(
            partial(self._looking, body_read), self.limits.leave_seconds if after is None else after
        )

    def _looking(self, body_read: asyncio.Event | None) -> asyncio.Task[None]:
        if self._look is None:
            self._look = asyncio.get_running_loop().create_task(self._leave(body_read))
        return self._look

    async def _leave(self, body_read: asyncio.Event | None) -> None:
        """
        Return once the client has left.

        There is one such look for the whole request: a server may take the client of a receive that
        was cancelled for gone.
        """
        if body_read is not None:
            await body_read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def close(self) -> None:
        """The request is over: nobody looks for its client any more."""
        if self._look is not None:
            self._look.cancel()


def too_many_headers(limit: int) -> Problem:
    return problem(
        Code.INVALID_ARGUMENT,
        f"the headers are larger than {limit} bytes",
        reason="HEADERS_TOO_LARGE",
        http=431,
    )


def unsupported(message: str, *headers: tuple[str, str]) -> Problem:
    return problem(
        Code.INVALID_ARGUMENT, message, reason="UNSUPPORTED_MEDIA_TYPE", http=415, headers=headers
    )
