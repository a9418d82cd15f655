"""Answers that differ in their header fields: HTTP's own, metadata, and malformed ones."""

from __future__ import annotations

from mesh.transport.message import pack
from tests.transport.answering import (
    REPLY,
    Answer,
    ended,
    http,
)
from tests.transport.saying import (
    RESPONSE,
    begin,
    data,
    headers,
    trailers,
)

FIELDS: dict[str, Answer] = {
    # -- HTTP
    **{
        f"HTTP {status}": Answer(
            says=http(status, ("content-type", "text/html")), code=code, details=status
        )
        for status, code in (
            ("204", "UNKNOWN"),
            ("301", "UNKNOWN"),
            ("400", "INTERNAL"),
            ("401", "UNAUTHENTICATED"),
            ("403", "PERMISSION_DENIED"),
            ("404", "UNIMPLEMENTED"),
            ("418", "UNKNOWN"),
            ("429", "UNAVAILABLE"),
            ("500", "UNKNOWN"),
            ("502", "UNAVAILABLE"),
            ("503", "UNAVAILABLE"),
            ("504", "UNAVAILABLE"),
        )
    },
    "HTTP 503 in one frame": Answer(says=http("503", end=True), code="UNAVAILABLE", details="503"),
    "HTTP 503 with a grpc-status": Answer(
        says=http("503", ("content-type", "application/grpc"), ("grpc-status", "5"), end=True),
        code="NOT_FOUND",
    ),
    "HTTP 503 with a grpc-status, not the end": Answer(
        says=lambda n: (
            headers(
                n, (":status", "503"), ("content-type", "application/grpc"), ("grpc-status", "5")
            )
            + trailers(n, "5")
        ),
        code="UNAVAILABLE",
        grpcio="NOT_FOUND",
        why="a status stands in trailers; what stands in a proxy's headers is not one",
    ),
    "text/html, 200": Answer(
        says=http("200", ("content-type", "text/html")), code="UNKNOWN", ours="text/html"
    ),
    "no content-type": Answer(
        says=lambda n: headers(n, (":status", "200")) + data(n, pack(REPLY)) + trailers(n),
        code="UNKNOWN",
        grpcio="OK",
        why="it does not look at the content-type of a response",
    ),
    **{
        f"content-type {kind}": Answer(
            says=lambda n, kind=kind: (
                headers(n, (":status", "200"), ("content-type", kind))
                + data(n, pack(REPLY))
                + trailers(n)
            ),
            reply=REPLY,
        )
        for kind in (
            "application/grpc+proto",
            "application/grpc;charset=utf-8",
            "application/grpcx",
        )
    },
    **{
        f"content-type {kind}": Answer(
            says=lambda n, kind=kind: (
                headers(n, (":status", "200"), ("content-type", kind))
                + data(n, pack(REPLY))
                + trailers(n)
            ),
            code="UNKNOWN",
            grpcio="OK",
            why="it does not look at the content-type of a response",
        )
        for kind in ("application/json", "text/plain")
    },
    "only 1xx, and the end": Answer(
        says=lambda n: headers(n, (":status", "100"), end=True), code="UNKNOWN", details="100"
    ),
    # -- metadata
    "binary metadata, unpadded": Answer(
        says=ended("5", ("x-bin", "AP8")), code="NOT_FOUND", trailing=(("x-bin", b"\0\xff"),)
    ),
    "binary metadata, padded": Answer(
        says=ended("5", ("x-bin", "AP8=")), code="NOT_FOUND", trailing=(("x-bin", b"\0\xff"),)
    ),
    "binary metadata, with commas": Answer(
        says=ended("5", ("x-bin", "AP8,AQ")),
        code="NOT_FOUND",
        trailing=(("x-bin", b"\0\xff"), ("x-bin", b"\1")),
        grpcio="INTERNAL",
        why='"implementations must split Binary-Headers on \\",\\"" - gRPC over HTTP2; it does not',
    ),
    "binary metadata that is none": Answer(
        says=ended("5", ("x-bin", "!!!")),
        code="NOT_FOUND",
        trailing=(("x-bin", b"!!!"),),
        grpcio="INTERNAL",
        why="it resets the call; we show what came",
    ),
    "empty binary metadata": Answer(
        says=ended("5", ("x-bin", "")), code="NOT_FOUND", trailing=(("x-bin", b""),)
    ),
    "metadata twice and in order": Answer(
        says=ended("5", ("a", "1"), ("b", "2"), ("a", "3")),
        code="NOT_FOUND",
        trailing=(("a", "1"), ("b", "2"), ("a", "3")),
    ),
    "metadata with UTF-8": Answer(
        says=ended("5", ("a", "é".encode())), code="NOT_FOUND", trailing=(("a", "é"),)
    ),
    "what gRPC says of a retry": Answer(
        says=ended("14", ("grpc-retry-pushback-ms", "10")),
        code="UNAVAILABLE",
        trailing=(("grpc-retry-pushback-ms", "10"),),
    ),
    # -- malformed (RFC 9113, 8.1.1)
    "a name in capitals": Answer(
        says=lambda n: begin(n, ("Head", "1")) + data(n, pack(REPLY)) + trailers(n),
        code="INTERNAL",
        grpcio="INTERNAL",
        why="it resets the call, and shows the header all the same",
    ),
    "a pseudo-header in trailers": Answer(
        says=lambda n: (
            begin(n)
            + data(n, pack(REPLY))
            + headers(n, ("grpc-status", "0"), (":status", "200"), end=True)
        ),
        code="INTERNAL",
        grpcio="OK",
        why='"Clients MUST NOT accept a malformed response" - RFC 9113, 8.1.1',
    ),
    "a pseudo-header after a field": Answer(
        says=lambda n: headers(n, *reversed(RESPONSE)) + data(n, pack(REPLY)) + trailers(n),
        code="INTERNAL",
        grpcio="OK",
        why='"Clients MUST NOT accept a malformed response" - RFC 9113, 8.1.1',
    ),
    "a pseudo-header of requests": Answer(
        says=lambda n: headers(n, (":path", "/"), *RESPONSE) + data(n, pack(REPLY)) + trailers(n),
        code="INTERNAL",
        grpcio="OK",
        why='"Clients MUST NOT accept a malformed response" - RFC 9113, 8.1.1',
    ),
    ":status twice": Answer(
        says=lambda n: (
            headers(n, (":status", "200"), *RESPONSE) + data(n, pack(REPLY)) + trailers(n)
        ),
        code="INTERNAL",
        grpcio="OK",
        why='"Clients MUST NOT accept a malformed response" - RFC 9113, 8.1.1',
    ),
    "a connection header": Answer(
        says=lambda n: begin(n, ("connection", "close")) + data(n, pack(REPLY)) + trailers(n),
        code="INTERNAL",
        grpcio="OK",
        why='"Clients MUST NOT accept a malformed response" - RFC 9113, 8.1.1',
    ),
    "a line break in a value": Answer(
        says=lambda n: begin(n, ("head", "a\nb")) + data(n, pack(REPLY)) + trailers(n),
        code="INTERNAL",
        grpcio="OK",
        why='"Clients MUST NOT accept a malformed response" - RFC 9113, 8.1.1',
    ),
    "headers without :status": Answer(
        says=lambda n: headers(n, RESPONSE[1]) + data(n, pack(REPLY)) + trailers(n),
        code="INTERNAL",
        grpcio="OK",
        why='"Clients MUST NOT accept a malformed response" - RFC 9113, 8.1.1',
    ),
    "DATA before headers": Answer(
        says=lambda n: data(n, pack(REPLY)),
        code="INTERNAL",
        grpcio="DEADLINE_EXCEEDED",
        why="it waits for headers; the frame is malformed (RFC 9113, 8.1)",
    ),
    "DATA after 1xx": Answer(
        says=lambda n: headers(n, (":status", "100")) + data(n, pack(REPLY)),
        code="INTERNAL",
        grpcio="UNKNOWN",
        why="as with any 1xx",
    ),
    "trailers that do not end": Answer(
        says=lambda n: begin(n) + data(n, pack(REPLY)) + headers(n, ("grpc-status", "0")),
        code="INTERNAL",
        grpcio="UNKNOWN",
        why="a stream error PROTOCOL_ERROR (RFC 9113, 8.1) is INTERNAL to gRPC",
    ),
}
