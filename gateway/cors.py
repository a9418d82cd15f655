"""
CORS: which other origins' pages may read our answers.  Off unless origins are named.

Credentials are never allowed: the gateway knows no cookies, and a page that sends a key or a token
of its own needs none, so `*` can be allowed without giving anybody's session away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from gateway.exchange import Answer, Exchange, RawHeaders
from gateway.headers import ALLOWED, PREFIX

ANY = "*"
MAX_AGE_SECONDS = 600
_ORIGIN = re.compile(r"https?://[^/*?#@\s]+")
# Beside what a browser lets through by itself, and metadata by its prefix.
REQUEST_HEADERS = ("content-type", "grpc-timeout", "x-api-key", *sorted(ALLOWED))
EXPOSED = ("idempotent-replayed", "retry-after", "www-authenticate", "x-request-id")


class Cors:
    """The rule: the origins, each as a browser writes it (`https://shop.example`), or `*`."""

    def __init__(self, origins: Iterable[str] = ()) -> None:
        self.origins = frozenset(origins)
        for origin in self.origins - {ANY}:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is not an origin like https://shop.example")

    def preflight(self, exchange: Exchange) -> bool:
        """Whether a browser asks before it asks; such a request carries no key and no token."""
        return (
            bool(self.origins)
            and exchange.method == "OPTIONS"
            and bool(exchange.header(b"origin"))
            and bool(exchange.header(b"access-control-request-method"))
        )

    def same_or_allowed(self, exchange: Exchange) -> bool:
        """
        Whether who opens a WebSocket may read it: browsers ask nobody, but say whose page it is.

        Who is no browser sends no Origin.
        """
        origin = exchange.header(b"origin")
        own = origin.partition("://")[2]
        return not origin or own == exchange.header(b"host") or bool(self.origins & {origin, ANY})

    def headers(self, exchange: Exchange, answer: Answer) -> RawHeaders:
        """What an answer says beside its own headers."""
        if not self.origins:
            return []
        # "a server that can answer with several values ... Vary: Origin" -- Fetch, CORS and caches
        vary = [] if ANY in self.origins else [(b"vary", b"origin")]
        origin = exchange.header(b"origin")
        if not origin or not self.origins & {origin, ANY}:
            return vary
        shown = ANY if ANY in self.origins else origin
        told = [*vary, (b"access-control-allow-origin", shown.encode("latin-1"))]
        if not self.preflight(exchange):
            own = (k for k, _ in answer.headers if k.startswith(PREFIX.encode()))
            exposed = b", ".join([*own, *(name.encode() for name in EXPOSED)])
            return [*told, (b"access-control-expose-headers", exposed)]
        methods = next((v for k, v in answer.headers if k == b"allow"), b"")
        asked = exchange.header(b"access-control-request-headers").lower().split(",")
        custom = sorted(name for name in map(str.strip, asked) if _metadata(name))
        allowed = ", ".join([*REQUEST_HEADERS, *custom])
        return [
            *told,
            (b"access-control-allow-methods", methods),
            (b"access-control-allow-headers", allowed.encode("latin-1")),
            (b"access-control-max-age", str(MAX_AGE_SECONDS).encode()),
        ]


def _metadata(name: str) -> bool:
    rest = name.removeprefix(PREFIX)
    return rest != name and rest.replace("-", "").isalnum() and rest.isascii()
