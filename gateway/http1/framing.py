"""
What HTTP/1.1 looks like on the wire, where llhttp does not say it: targets in, heads out.

    "/a?b", "http://x/a?b", "*"  --target-->  path, query
    status, headers              --head-->    b"HTTP/1.1 200 OK\\r\\n..."

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus

Headers = Iterable[tuple[bytes, bytes]]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
_LINES = {each.value: b"HTTP/1.1 %d %s\r\n" % (each, each.phrase.encode()) for each in HTTPStatus}
# Visible ASCII alone; what else a URI may not hold is the application's to say.
_VISIBLE = re.compile(rb"[\x21-\x7e]+")
_ABSOLUTE = re.compile(rb"https?://[^/?#]+(?P<rest>[/?].*)?", re.IGNORECASE)


class BadTarget(Exception):
    """The request's target is none."""


def target(url: bytes) -> tuple[bytes, bytes]:
    """The path as it was sent, and the query; BadTarget for what is no target."""
    if not _VISIBLE.fullmatch(url) or b"#" in url:
        raise BadTarget(url)
    if url[:1] != b"/":
        # "a server MUST accept the absolute-form in requests" - RFC 9112, 3.2.2
        match = _ABSOLUTE.fullmatch(url)
        if match is not None:
            url = match["rest"] or b"/"
            url = url if url[:1] == b"/" else b"/" + url
        elif b"://" in url:
            raise BadTarget(url)
    path, _, query = url.partition(b"?")
    return path, query


def head(status: int, headers: Headers, date: bytes) -> bytes:
    """A response's head."""
    line = _LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    fields = b"".join([b"%b: %b\r\n" % field for field in headers])
    return b"%bdate: %b\r\n%b\r\n" % (line, date, fields)


def chunk(piece: bytes) -> bytes:
    """A piece of a body whose length nobody knows yet."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


class Dates:
    """The Date header, made once a second; `now` is seconds since 1970."""

    def __init__(self) -> None:
        self._second = -1
        self._date = b""

    def at(self, now: float) -> bytes:
        """The date of that moment."""
        second = int(now)
        if second != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True).encode()
        return self._date
