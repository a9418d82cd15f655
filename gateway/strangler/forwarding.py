"""
Which headers cross to an old HTTP service and back: all that are end to end.

    in    all but hop-by-hop ones, X-Api-Key and X-Mesh-*; X-Forwarded-For appended,
          X-Forwarded-Host and -Proto set; who asks as gateway.guard has found, sealed where it
          seals (X-Mesh-Principal, X-Mesh-Seal), as any service is told
    out   all but hop-by-hop ones and what our own server says (Date, Server, Content-Length,
          X-Request-Id, and Access-Control-*: which pages may read an answer is
          GATEWAY_CORS_ORIGINS' to say)

"Intermediaries SHOULD remove or replace fields that are known to require removal before
forwarding ... Proxy-Connection, Keep-Alive, TE, Transfer-Encoding, Upgrade" - RFC 9110, 7.6.1;
so are those that Connection names.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.exchange import Exchange, RawHeaders
from gateway.headers import MESH

HOP_BY_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate"),
        *(b"proxy-authorization", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    }
)
# Ours to say, or to know: the key that opens the gateway opens nothing else.
NOT_IN = HOP_BY_HOP | {
    *(b"host", b"expect", b"x-api-key", b"x-forwarded-for", b"x-forwarded-host"),
    *(b"x-forwarded-proto", b"grpc-timeout"),
}
NOT_OUT = HOP_BY_HOP | {
    *(b"date", b"server", b"content-length", b"x-content-type-options", b"x-request-id"),
}
CORS = b"access-control-"
# Says to whoever is asked that nobody waits for this answer.
SHADOW = (b"x-mesh-shadow", b"true")


def request(exchange: Exchange, *, plain: bool) -> list[tuple[str, str]]:
    """What the old service is told; with `plain` nothing that would have it compress."""
    named = _connection(exchange.headers)
    found: list[tuple[str, str]] = []
    forwarded: list[str] = []
    host = ""
    for given, value in exchange.headers:
        name = given.lower()
        text = value.decode("latin-1")
        if name == b"x-forwarded-for":
            forwarded.append(text)
        elif name == b"host":
            host = text
        elif not (
            name in NOT_IN
            or name in named
            or name.startswith(MESH.encode())
            or (plain and name == b"accept-encoding")
        ):
            found.append((name.decode("latin-1"), text))
    found.append(("x-forwarded-for", ", ".join([*forwarded, exchange.client])))
    found.append(("x-forwarded-proto", exchange.scope.get("scheme", "http")))
    if host:
        found.append(("x-forwarded-host", host))
    if exchange.saying is not None:
        found.extend((name, str(value)) for name, value in exchange.saying())
    if plain:
        found.append(("accept-encoding", "identity"))
    return found


def response(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """What the client is told of the old service's headers."""
    given = [(name.lower(), value) for name, value in headers]
    named = _connection(given)
    return [
        (name, value)
        for name, value in given
        if name not in NOT_OUT and name not in named and not name.startswith(CORS)
    ]


def _connection(headers: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """The headers that Connection names: they are for this hop alone."""
    return {
        option.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for option in value.split(b",")
    }
