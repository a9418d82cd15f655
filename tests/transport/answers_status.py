"""Answers that differ in how they say the call's end: replies, statuses, their messages."""

from __future__ import annotations

from mesh.transport.frames import ErrorCode
from mesh.transport.message import pack
from tests.transport.answering import (
    LARGEST,
    REPLY,
    Answer,
    chopped,
    continued,
    ended,
    only,
    padded,
    percent,
    prioritized,
    surrounded,
)
from tests.transport.saying import (
    answer,
    begin,
    data,
    headers,
    rst_stream,
    trailers,
)

STATUS: dict[str, Answer] = {
    # -- in order
    "a reply": Answer(says=lambda n: answer(n, REPLY), reply=REPLY),
    "an empty reply": Answer(says=lambda n: answer(n, b""), reply=b""),
    "a reply byte by byte": Answer(says=chopped, reply=REPLY),
    "padding everywhere": Answer(
        says=padded,
        reply=REPLY,
        grpcio="INTERNAL",
        why="it takes padding in HEADERS for HPACK: PADDED is not read (6.1, 6.2)",
    ),
    "priorities": Answer(says=prioritized, reply=REPLY),
    "blocks in pieces": Answer(
        says=continued, reply=REPLY, initial=(("head", "1"),), trailing=(("tail", "1"),)
    ),
    "noise around it": Answer(says=surrounded, reply=REPLY),
    "empty DATA around it": Answer(
        says=lambda n: begin(n) + data(n, b"") + data(n, pack(REPLY)) + data(n, b"") + trailers(n),
        reply=REPLY,
    ),
    "1xx before the headers": Answer(
        says=lambda n: headers(n, (":status", "103"), ("link", "x")) + answer(n, REPLY),
        reply=REPLY,
        grpcio="UNKNOWN",
        why="it takes an informational response (RFC 9113, 8.1) for the last one",
    ),
    "as large as may be": Answer(says=lambda n: answer(n, bytes(LARGEST)), reply=bytes(LARGEST)),
    "reset with NO_ERROR after the end": Answer(
        says=lambda n: answer(n, REPLY) + rst_stream(n, ErrorCode.NO_ERROR), reply=REPLY
    ),
    # -- statuses
    "an error after headers": Answer(
        says=lambda n: (
            begin(n, ("head", "1")) + trailers(n, "5", ("grpc-message", "not here"), ("tail", "1"))
        ),
        code="NOT_FOUND",
        details="not here",
        initial=(("head", "1"),),
        trailing=(("tail", "1"),),
    ),
    "an error after a reply": Answer(
        says=ended("10", ("grpc-message", "lost")), code="ABORTED", details="lost"
    ),
    "trailers only": Answer(
        says=only(("grpc-status", "7"), ("grpc-message", "no"), ("why", "1")),
        code="PERMISSION_DENIED",
        details="no",
        trailing=(("why", "1"),),
    ),
    "trailers only, OK": Answer(
        says=only(("grpc-status", "0")),
        code="UNIMPLEMENTED",
        details="",
        grpcio="OK",
        why="it hands its caller an end of file for a reply; the status table says UNIMPLEMENTED",
    ),
    "OK and no message": Answer(
        says=lambda n: begin(n) + trailers(n),
        code="UNIMPLEMENTED",
        grpcio="OK",
        why="it hands its caller an end of file for a reply; the status table says UNIMPLEMENTED",
    ),
    "OK and half a message": Answer(
        says=lambda n: begin(n) + data(n, pack(REPLY)[:-1]) + trailers(n),
        code="INTERNAL",
        grpcio="OK",
        why="it hands its caller an end of file for a reply that broke off",
    ),
    "OK and half a prefix": Answer(
        says=lambda n: begin(n) + data(n, pack(REPLY)[:3]) + trailers(n),
        code="INTERNAL",
        grpcio="OK",
        why="it hands its caller an end of file for a reply that broke off",
    ),
    "two messages": Answer(
        says=lambda n: begin(n) + data(n, pack(REPLY) + pack(b"more")) + trailers(n),
        code="UNIMPLEMENTED",
        grpcio="DEADLINE_EXCEEDED",
        why="it never reads past the first message; the status table says UNIMPLEMENTED",
    ),
    "two messages in two frames": Answer(
        says=lambda n: begin(n) + data(n, pack(REPLY)) + data(n, pack(b"more")) + trailers(n),
        code="UNIMPLEMENTED",
        grpcio="DEADLINE_EXCEEDED",
        why="it never reads past the first message; the status table says UNIMPLEMENTED",
    ),
    "two messages and an error": Answer(
        says=lambda n: begin(n) + data(n, pack(REPLY) + pack(b"more")) + trailers(n, "5"),
        code="UNIMPLEMENTED",
        grpcio="DEADLINE_EXCEEDED",
        why="as above; we hang up at the second and do not hear the error",
    ),
    "no grpc-status": Answer(
        says=lambda n: begin(n) + data(n, pack(REPLY)) + headers(n, ("tail", "1"), end=True),
        code="UNKNOWN",
        trailing=(("tail", "1"),),
    ),
    "the end in DATA": Answer(
        says=lambda n: begin(n) + data(n, pack(REPLY), end=True), code="UNKNOWN"
    ),
    "the end in an empty DATA": Answer(
        says=lambda n: begin(n) + data(n, b"", end=True), code="UNKNOWN"
    ),
    "a status of letters": Answer(
        says=ended("abc"),
        code="UNKNOWN",
        grpcio="INTERNAL",
        why='"Error parsing returned status: UNKNOWN" - gRPC status codes',
    ),
    "a status beyond 16": Answer(says=ended("17"), code="UNKNOWN"),
    "a status of three digits": Answer(says=ended("099"), code="UNKNOWN"),
    "a status with a zero before it": Answer(says=ended("05"), code="NOT_FOUND"),
    "a negative status": Answer(
        says=ended("-1"),
        code="UNKNOWN",
        grpcio="INTERNAL",
        why='"Error parsing returned status: UNKNOWN" - gRPC status codes',
    ),
    "an empty status": Answer(
        says=ended(""),
        code="UNKNOWN",
        grpcio="INTERNAL",
        why='"Error parsing returned status: UNKNOWN" - gRPC status codes',
    ),
    "a status in the headers, and another at the end": Answer(
        says=lambda n: begin(n, ("grpc-status", "5")) + data(n, pack(REPLY)) + trailers(n, "7"),
        code="PERMISSION_DENIED",
    ),
    "a status in the headers, and the end in DATA": Answer(
        says=lambda n: begin(n, ("grpc-status", "5")) + data(n, b"", end=True), code="UNKNOWN"
    ),
    # -- messages of errors
    "a message in percent": Answer(
        says=percent("%E2%82%AC and %25"), code="FAILED_PRECONDITION", details="€ and %"
    ),
    "a message with broken percents": Answer(
        says=percent("100% %zz %4"), code="FAILED_PRECONDITION", details="100% %zz %4"
    ),
    "a message that is no UTF-8": Answer(
        says=percent("a%FFb"),
        code="FAILED_PRECONDITION",
        details="a�b",
        grpcio="FAILED_PRECONDITION",
        why="it falls back to Latin-1, we show U+FFFD; neither may throw the message away",
    ),
    "a message of raw UTF-8": Answer(
        says=percent("é".encode()), code="FAILED_PRECONDITION", details="é"
    ),
}
