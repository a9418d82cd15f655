"""
Which headers cross the gateway, both ways: an allow-list, and nothing else.

    in    Authorization, Idempotency-Key, Traceparent, Tracestate, X-Request-Id,
          Last-Event-Id                                                             by their names
          Grpc-Metadata-X, Grpc-Metadata-X-Bin (base64)                             as x, x-bin
          X-Forwarded-For, X-Forwarded-Host                                         appended, set
    new   X-Mesh-Principal, who asks as gateway.guard has found; X-Mesh-* cannot be sent
    out   Grpc-Metadata-X of what the service sent; Idempotent-Replayed, Www-Authenticate bare

A value that is not printable ASCII is 400 on the way in and dropped on the way out: what HTTP
would take as two headers, gRPC must not see as one.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Sequence

from gateway.invalid import Invalid, shown

Metadata = list[tuple[str, str | bytes]]

PREFIX = "grpc-metadata-"
ALLOWED = frozenset(
    {
        "authorization",
        "idempotency-key",
        "traceparent",
        "tracestate",
        "x-request-id",
        "last-event-id",
    }
)
BARE_OUT = frozenset({"idempotent-replayed", "www-authenticate"})
# "the connection option ... hop-by-hop" (RFC 9110 7.6.1), what gRPC means by itself, and what
# would make the service believe that somebody else speaks.
FORBIDDEN = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te"),
        *("trailer", "content-type", "content-length", "content-encoding", "accept-encoding"),
        *("host", "user-agent", "x-forwarded-for", "x-forwarded-host", *ALLOWED),
    }
)
HIDDEN = (FORBIDDEN - ALLOWED) | {"date", "server", "x-request-id"}
# Names that many requests have, read once; and those that mean nothing to a service.
_READ = {name.encode(): name for name in {*ALLOWED, "host", "x-forwarded-for"}}
_UNREAD = frozenset(
    {b"accept", b"accept-encoding", b"accept-language", b"cache-control", b"connection", b"cookie"}
    | {b"content-length", b"content-type", b"origin", b"referer", b"user-agent"}
)
# What the mesh says about a call: who asks (mesh.identity.seal), how much it matters.
MESH = "x-mesh-"
_NAME = re.compile(r"[0-9a-z_.-]+")
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def metadata(headers: Iterable[tuple[bytes, bytes]], client: str) -> Metadata:
    """The call's metadata from the request's headers, or Invalid; `client` is who is connected."""
    found: Metadata = []
    seen: dict[str, str] = {}
    forwarded: list[str] = []
    for raw_name, raw_value in headers:
        if raw_name in _UNREAD:
            continue
        name = _READ.get(raw_name) or raw_name.decode("latin-1").lower()
        if name in ALLOWED:
            value = _value(name, raw_value)
            if not value:
                raise Invalid("is empty", name, "INVALID_HEADER")
            if seen.setdefault(name, value) != value:
                raise Invalid("is given twice", name, "INVALID_HEADER")
            found.append((name, value))
        elif name.startswith(PREFIX):
            found.append(_custom(name, _value(name, raw_value)))
        elif name == "x-forwarded-for":
            forwarded.append(_value(name, raw_value))
        elif name == "host":
            found.append(("x-forwarded-host", _value(name, raw_value)))
    found.append(("x-forwarded-for", ", ".join([*forwarded, client])))
    return found


def size(metadata: Metadata) -> int:
    """How large gRPC says it is: HPACK counts 32 bytes more an entry (RFC 7541 4.1)."""
    return sum(
        32 + len(name) + (len(value) * 4 // 3 if name.endswith("-bin") else len(value))
        for name, value in metadata
    )


def timeout(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    """Grpc-Timeout in seconds; None when it is not given."""
    found: str | None = None
    for name, raw in headers:
        if len(name) == 12 and name.lower() == b"grpc-timeout":
            text = _value("grpc-timeout", raw)
            if found is not None and text != found:
                raise Invalid("is given twice", "grpc-timeout", "INVALID_HEADER")
            found = text
    if found is None:
        return None
    match = _TIMEOUT.fullmatch(found)
    if match is None:
        raise Invalid(f"{shown(found)} is not a timeout like 500m", "grpc-timeout")
    return int(match[1]) * _UNITS[match[2]]


def response(*metadata: Sequence[tuple[str, str | bytes]] | None) -> list[tuple[bytes, bytes]]:
    """What of the service's metadata the client is told."""
    found: list[tuple[bytes, bytes]] = []
    for name, value in (pair for part in metadata for pair in part or ()):
        if name in HIDDEN or name.startswith(("grpc-", ":")):
            continue
        text = value if isinstance(value, str) else _base64(value)
        if not _printable(text):
            continue
        out = name if name in BARE_OUT else PREFIX + name
        found.append((out.encode("latin-1"), text.encode("latin-1")))
    return found


def media_type(content_type: str) -> bytes:
    """The Content-Type of google.api.HttpBody, where HTTP can hold what the service says."""
    said = content_type if _printable(content_type) else ""
    return (said or "application/octet-stream").encode("latin-1")


def _printable(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _base64(value: bytes) -> str:
    return binascii.b2a_base64(value, newline=False).decode()


def _value(name: str, raw: bytes) -> str:
    value = raw.decode("latin-1").strip(" \t")
    if not _printable(value):
        raise Invalid("holds what is not printable ASCII", name, "INVALID_HEADER")
    return value


def _custom(header: str, value: str) -> tuple[str, str | bytes]:
    name = header.removeprefix(PREFIX)
    if not _NAME.fullmatch(name) or name in FORBIDDEN or name.startswith(("grpc-", MESH)):
        raise Invalid("is not metadata that a client may set", header, "INVALID_HEADER")
    if not name.endswith("-bin"):
        return name, value
    try:
        padded = value.rstrip("=") + "=" * (-len(value.rstrip("=")) % 4)
        return name, binascii.a2b_base64(padded, strict_mode=True)
    except (binascii.Error, ValueError):
        raise Invalid(f"{shown(value)} is not base64", header, "INVALID_HEADER") from None
