"""
HTTP/1.1 as bytes: what a client sent becomes requests, what the agent says becomes bytes.

Pure.  It takes what curl, Go and Python clients send (chunked bodies, Expect: 100-continue,
keep-alive, pipelining, bare LF) within bounds, and refuses the rest with the words of Go's server:
Consul's clients must not be able to tell.  aiohttp.web could do it too, for ten times the memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote_to_bytes

MAX_HEAD = 64 * 1024
MAX_BODY = 2 * 1024 * 1024

REASONS = {
    200: "OK",
    301: "Moved Permanently",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Request Entity Too Large",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}
_LINE = re.compile(rb"([!-~]+) ([!-~\x80-\xff]+) HTTP/(\d)\.(\d)")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class Unreadable(Exception):
    """Not a request; the connection is answered with `status` and closed."""

    def __init__(self, status: int = 400, text: str = "400 Bad Request") -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Query:
    """The parameters behind the question mark, each name perhaps several times."""

    def __init__(self, text: str = "") -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in parse_qsl(text, keep_blank_values=True) if text else ():
            self._values.setdefault(name, []).append(value)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def get(self, name: str, default: str = "") -> str:
        """The first value, as Go's url.Values has it."""
        found = self._values.get(name)
        return found[0] if found else default

    def every(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def items(self) -> list[tuple[str, str]]:
        """All of them, sorted by name."""
        return [(name, value) for name in sorted(self._values) for value in self._values[name]]


@dataclass(slots=True)
class Request:
    """`path` is decoded; `rest` is what of it comes behind the route's own."""

    method: str
    path: str
    query: Query
    headers: Mapping[str, str]
    body: bytes = b""
    rest: str = ""
    keep_alive: bool = True
    version: str = "1.1"


@dataclass(slots=True)
class Response:
    status: int = 200
    body: bytes = b""
    content_type: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def encode(self, request: Request | None, date: str) -> bytes:
        """The bytes, with what `request` says of the connection."""
        lines = [f"HTTP/{request.version if request else '1.1'} {self.status} {_reason(self)}"]
        if self.content_type:
            lines.append(f"Content-Type: {self.content_type}")
        lines += [f"{name}: {_line(value)}" for name, value in self.headers.items()]
        if request is None or not request.keep_alive:
            lines.append("Connection: close")
        elif request.version == "1.0":
            lines.append("Connection: keep-alive")
        if request is not None:
            lines += ["Vary: Accept-Encoding", f"Date: {date}"]
        lines.append(f"Content-Length: {len(self.body)}")
        head = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
        return head if request is not None and request.method == "HEAD" else head + self.body


def text(status: int, words: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response(status, words.encode(), "text/plain; charset=utf-8", dict(headers or {}))


def _reason(response: Response) -> str:
    return REASONS.get(response.status, "Unknown")


def _line(value: str) -> str:
    return value.replace("\r", " ").replace("\n", " ")


class Parser:
    """One connection's bytes; `feed` them, then take each whole request by `request`."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._head: Request | None = None
        self._length = 0
        self._chunked = False
        self._chunks = bytearray()
        self._expects = False

    def feed(self, data: bytes) -> None:
        self._bytes += data

    @property
    def size(self) -> int:
        """How many bytes wait, for who has to stop reading."""
        return len(self._bytes)

    def continues(self) -> bool:
        """Whether the client waits to be told to send the body; true once a request."""
        expects, self._expects = self._expects, False
        return expects and self._head is not None

    def request(self) -> Request | None:
        """The next whole request, None until more bytes come; raises Unreadable."""
        if self._head is None and not (self._bytes and self._read_head()):
            return None
        request = self._head
        assert request is not None
        if self._chunked:
            if not self._read_chunks():
                return None
            request.body = bytes(self._chunks)
        elif len(self._bytes) < self._length:
            return None
        else:
            request.body = bytes(self._bytes[: self._length])
            del self._bytes[: self._length]
        self._head = None
        self._expects = False
        return request

    def _read_head(self) -> bool:
        while self._bytes[:2] == b"\r\n":  # between requests, as old clients send it
            del self._bytes[:2]
        end = re.search(rb"\r?\n\r?\n", self._bytes)
        if end is None or end.start() > MAX_HEAD:
            if len(self._bytes) > MAX_HEAD:
                raise Unreadable(431, "431 Request Header Fields Too Large")
            return False
        first, *rest = bytes(self._bytes[: end.start()]).replace(b"\r\n", b"\n").split(b"\n")
        del self._bytes[: end.end()]
        line = _LINE.fullmatch(first)
        if line is None:
            raise Unreadable
        if line[3] != b"1":
            raise Unreadable(400, "400 Bad Request: unsupported protocol version")
        headers: dict[str, str] = {}
        for one in rest:
            found = _HEADER.fullmatch(one)
            if found is None:
                raise Unreadable
            name, value = found[1].decode().lower(), found[2].decode("latin-1")
            if name in ("content-length", "host") and headers.get(name, value) != value:
                raise Unreadable
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        version = f"1.{line[4].decode()}"
        if version != "1.0" and "host" not in headers:
            raise Unreadable(400, "400 Bad Request: missing required Host header")
        self._head = _request(line[1].decode(), line[2].decode("latin-1"), version, headers)
        self._body(headers)
        return True

    def _body(self, headers: Mapping[str, str]) -> None:
        coding = headers.get("transfer-encoding", "").lower()
        if coding not in ("", "chunked"):
            raise Unreadable(501, "501 Unsupported transfer encoding")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise Unreadable
        self._chunked = bool(coding)
        self._length = 0 if coding else int(length)
        self._chunks.clear()
        self._expects = headers.get("expect", "").lower() == "100-continue"
        if self._length > MAX_BODY:
            raise Unreadable(413, "413 Request Entity Too Large")

    def _read_chunks(self) -> bool:
        while True:
            end = self._bytes.find(b"\n")
            if end < 0:
                if len(self._bytes) > MAX_HEAD:
                    raise Unreadable
                return False
            size = bytes(self._bytes[:end]).split(b";")[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size):
                raise Unreadable
            length = int(size, 16)
            if length == 0:
                return self._read_trailer(end + 1)
            if len(self._chunks) + length > MAX_BODY:
                raise Unreadable(413, "413 Request Entity Too Large")
            rest = self._bytes[end + 1 + length : end + 3 + length]
            if rest[:1] != b"\n" and len(rest) < 2:
                return False
            if rest[:1] != b"\n" and rest != b"\r\n":
                raise Unreadable
            self._chunks += self._bytes[end + 1 : end + 1 + length]
            del self._bytes[: end + 1 + length + (1 if rest[:1] == b"\n" else 2)]

    def _read_trailer(self, start: int) -> bool:
        """Trailers are read and forgotten."""
        found = re.compile(rb"(?:[^\r\n]+\r?\n)*\r?\n").match(self._bytes, start)
        if found is None:
            if len(self._bytes) - start > MAX_HEAD:
                raise Unreadable
            return False
        del self._bytes[: found.end()]
        return True


def _request(method: str, target: str, version: str, headers: Mapping[str, str]) -> Request:
    if target.startswith(("http://", "https://")):  # as proxies ask
        target = "/" + target.split("/", 3)[3] if target.count("/") > 2 else "/"
    path, _, query = target.partition("?")
    if _BAD_ESCAPE.search(path) or not path.startswith("/"):
        raise Unreadable
    connection = headers.get("connection", "").lower()
    return Request(
        method,
        unquote_to_bytes(path.encode("latin-1")).decode(errors="replace"),
        Query(query),
        headers,
        keep_alive="keep-alive" in connection if version == "1.0" else "close" not in connection,
        version=version,
    )
