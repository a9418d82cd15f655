"""
Bytes of a client to requests: llhttp's callbacks, and the limits that llhttp does not have.

    feed(bytes) --> begun(scope), fed(piece) ..., ended()     for each request in them
                --> Refusal                                   nothing after it is looked at
                --> what follows an upgrade, unlooked at

Pure.  llhttp is strict about what frames a message: a length beside a coding, lines that end in LF,
folded lines, space before a colon.  Bounded here are the head, trailers, and what comes around the
pieces of a body; and nothing of a trailer is ever a header.
"""

from __future__ import annotations

import re
from typing import Any, Protocol

import httptools

from gateway.http1 import framing

# Request line and headers; what is over it is 431 before any of it is looked at.
HEAD_BYTES = 64 * 1024
# As Envoy's max_headers_count.
MOST_HEADERS = 100
# What may come around a body's pieces: chunk sizes and their extensions, trailers; and so many
# times the body itself, since chunks may be short.
AROUND_BYTES, AROUND_RATIO = 64 * 1024, 8

_HTTP2 = b"PRI * HTTP/2"
# "method = token" - RFC 9110, 9.1; "SHOULD ignore at least one empty line" - RFC 9112, 2.2
_METHOD = re.compile(rb"(?:\r\n)*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)( ?)")
_LONGEST_METHOD = 64
# llhttp takes these and no other; another one, as google.api.http may name, goes past it as a
# `_STAND_IN`.  Only where it is the first thing that comes, which it is but for pipelining.
_STAND_IN = b"POST"
_KNOWN = frozenset(
    b"DELETE GET HEAD POST PUT CONNECT OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH "
    b"SEARCH UNLOCK BIND REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY "
    b"SUBSCRIBE UNSUBSCRIBE PATCH PURGE MKCALENDAR LINK UNLINK PRI".split()
)
_ASGI = {"version": "3.0", "spec_version": "2.4"}


class Refusal(Exception):
    """What is no request is answered so; `status` 0 says nothing: there is nobody to read it."""

    def __init__(self, status: int, message: str, reason: str = "MALFORMED_REQUEST") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason


class Sink(Protocol):
    """Whoever answers the requests."""

    def begun(self, scope: dict[str, Any], *, last: bool, expects: bool, upgrade: bool) -> None:
        """
        A request's head is here, as ASGI has it.

        `last`: its connection ends with it; `expects`: its client waits for 100 (Continue).
        """

    def fed(self, piece: bytes) -> None:
        """A piece of its body."""

    def ended(self) -> None:
        """It has come whole."""


class Parser:
    """The requests of one connection, up to an upgrade."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._llhttp: Any = httptools.HttpRequestParser(self)
        # Whether a head is being read, or a body.
        self.in_head = self.in_body = False
        # Nothing follows the last request.
        self._over = False
        # Whether a request begins with the next byte; what came of its method; and that, if it is
        # one that llhttp does not know.
        self._between = True
        self._begun = b""
        self._method = b""
        self._heads = 0
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expects = False
        # Of the present head, of the present body as it came and what it holds, of its trailers.
        self._head_bytes = self._fed_bytes = self._body_bytes = self._trailer_bytes = 0

    def feed(self, data: bytes) -> bytes | None:
        """Take what the client sent; what follows an upgrade is given back, or Refusal raised."""
        if self._between:
            data = self._known(self._begun + data)
            if not data:
                return None
        heads, in_head, in_body = self._heads, self.in_head, self.in_body
        try:
            self._llhttp.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            if self._over:
                return None
            raise self._understood(error, data, first=heads == self._heads) from None
        if heads == self._heads:
            # What comes in many pieces: how long its last field is llhttp does not say.
            if in_head and self.in_head:
                self._head_bytes += len(data)
                if self._head_bytes > HEAD_BYTES:
                    raise _too_long()
            elif in_body and self.in_body:
                self._fed_bytes += len(data)
                around = self._fed_bytes - self._body_bytes
                if around > AROUND_BYTES + AROUND_RATIO * self._body_bytes:
                    raise Refusal(400, "more around the body than in it", "BODY_TOO_THIN")
        return None

    def _known(self, data: bytes) -> bytes:
        """The same with a method that llhttp knows; b"" while it is not whole."""
        self._begun = b""
        match = _METHOD.match(data)
        if match is None or match[1] in _KNOWN:
            return data
        if not match[2]:
            if match.end() == len(data) <= _LONGEST_METHOD:
                self._begun = data
                return b""
            return data  # no method, or none that anybody has
        self._method = match[1]
        return data[: match.start(1)] + _STAND_IN + data[match.end(1) :]

    def _understood(self, error: Exception, data: bytes, *, first: bool) -> Refusal:
        """What the parser's error is to the client."""
        if isinstance(error.__context__, Refusal):
            return error.__context__
        if first and data.startswith(_HTTP2):
            return Refusal(0, "HTTP/2, which could not read what HTTP/1 says")
        return Refusal(400, f"this is not HTTP/1.1: {error}")

    # -- llhttp

    def on_message_begin(self) -> None:
        self.in_head, self._between, self._head_bytes = True, False, 0
        self._url, self._headers, self._expects = b"", [], False

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._head_bytes += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        size = len(name) + len(value)
        if not self.in_head:
            # "a recipient MAY [...] discard" trailers - RFC 9110, 6.5.1; they must end, though.
            self._trailer_bytes += size
            if self._trailer_bytes > HEAD_BYTES:
                raise _too_long()
            return
        name = name.lower()
        self._headers.append((name, value))
        self._head_bytes += size
        if name == b"expect":
            self._expects = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        self.in_head, self.in_body = False, True
        self._heads += 1
        if self._over:
            return
        self._fed_bytes = self._body_bytes = self._trailer_bytes = 0
        llhttp, headers = self._llhttp, self._headers
        version = llhttp.get_http_version()
        if self._head_bytes > HEAD_BYTES:
            raise _too_long()
        if len(headers) > MOST_HEADERS:
            raise Refusal(431, f"more than {MOST_HEADERS} headers", "HEADERS_TOO_LARGE")
        new = version == "1.1"
        if not new:
            if version != "1.0":
                raise Refusal(400, f"HTTP/{version} is not spoken here", "UNKNOWN_VERSION")
            if any(name == b"transfer-encoding" for name, _ in headers):
                # "MUST treat the message as if the framing is faulty" - RFC 9112, 6.1
                raise Refusal(400, "HTTP/1.0 knows no Transfer-Encoding", "INVALID_CODING")
        try:
            path, query = framing.target(self._url)
        except framing.BadTarget:
            raise Refusal(400, "the request's target is no URI", "INVALID_TARGET") from None
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": (self._method or llhttp.get_method()).decode("latin-1"),
            "scheme": "http",
            "path": path.decode("latin-1"),
            "raw_path": path,
            "query_string": query,
            "headers": headers,
        }
        self._method = b""
        self._over = not (new and llhttp.should_keep_alive())
        self._sink.begun(
            scope,
            last=self._over,
            expects=new and self._expects,
            upgrade=llhttp.should_upgrade(),
        )

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        self._sink.fed(body)

    def on_message_complete(self) -> None:
        self.in_body, self._between = False, True
        self._sink.ended()


def _too_long() -> Refusal:
    return Refusal(431, f"the head is longer than {HEAD_BYTES} bytes", "HEADERS_TOO_LARGE")
