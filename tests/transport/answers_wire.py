"""Answers that differ in their frames: compression, sizes, resets, and what breaks a connection."""

from __future__ import annotations

import gzip
import struct
import zlib

from mesh.transport import frames
from mesh.transport.frames import ErrorCode
from mesh.transport.message import pack
from tests.transport.answering import (
    BOMB,
    LARGEST,
    REPLY,
    Answer,
    compressed,
    encoded,
    headers_of,
)
from tests.transport.saying import (
    answer,
    begin,
    data,
    goaway,
    rst_stream,
    trailers,
    window_update,
)

WIRE: dict[str, Answer] = {
    # -- compression
    "gzip": Answer(says=encoded("gzip", gzip.compress(REPLY)), reply=REPLY),
    "deflate": Answer(says=encoded("deflate", zlib.compress(REPLY)), reply=REPLY),
    "an empty reply, compressed": Answer(says=encoded("gzip", gzip.compress(b"")), reply=b""),
    "grpc-encoding gzip, and a message without": Answer(
        says=lambda n: begin(n, ("grpc-encoding", "gzip")) + data(n, pack(REPLY)) + trailers(n),
        reply=REPLY,
    ),
    "identity, flagged": Answer(says=encoded("identity", REPLY), code="INTERNAL"),
    "no encoding, flagged": Answer(
        says=lambda n: begin(n) + data(n, compressed(gzip.compress(REPLY))) + trailers(n),
        code="INTERNAL",
    ),
    "an encoding that nobody knows": Answer(
        says=encoded("snappy", b"whatever"), code="INTERNAL", ours="snappy"
    ),
    "an encoding that nobody knows, unused": Answer(
        says=lambda n: begin(n, ("grpc-encoding", "snappy")) + data(n, pack(REPLY)) + trailers(n),
        reply=REPLY,
        grpcio="INTERNAL",
        why="the message was not compressed, so nothing stands in its way",
    ),
    "gzip that is none": Answer(says=encoded("gzip", b"not gzip at all"), code="INTERNAL"),
    "gzip that breaks off": Answer(
        says=encoded("gzip", gzip.compress(REPLY)[:-9]), code="INTERNAL"
    ),
    "gzip with something after it": Answer(
        says=encoded("gzip", gzip.compress(REPLY) + b"more"), code="INTERNAL"
    ),
    "deflate said to be gzip": Answer(says=encoded("gzip", zlib.compress(REPLY)), code="INTERNAL"),
    "a bomb": Answer(says=encoded("gzip", BOMB), code="RESOURCE_EXHAUSTED"),
    "flag 2": Answer(
        says=lambda n: begin(n) + data(n, b"\2" + pack(REPLY)[1:]) + trailers(n),
        code="INTERNAL",
        grpcio="OK",
        why='"Compressed-Flag -> 0 / 1" - gRPC over HTTP2; it looks at one bit',
    ),
    # -- sizes
    "a length beyond what may be": Answer(
        says=lambda n: begin(n) + data(n, struct.pack(">BI", 0, LARGEST + 1)),
        code="RESOURCE_EXHAUSTED",
        details=f"({LARGEST + 1} vs. {LARGEST})",
    ),
    "a length of 2^32-1": Answer(
        says=lambda n: begin(n) + data(n, struct.pack(">BI", 0, 2**32 - 1)),
        code="RESOURCE_EXHAUSTED",
    ),
    "20 KB of metadata": Answer(
        says=lambda n: (
            begin(n)
            + data(n, pack(REPLY))
            + headers_of(n, ("grpc-status", "5"), ("a", "x" * 20_000))
        ),
        code="RESOURCE_EXHAUSTED",
    ),
    "100 KB of metadata": Answer(
        says=lambda n: (
            begin(n)
            + data(n, pack(REPLY))
            + headers_of(n, ("grpc-status", "5"), ("a", "x" * 100_000))
        ),
        code="RESOURCE_EXHAUSTED",
    ),
    # -- resets
    **{
        f"reset: {code.name}": Answer(
            says=lambda n, code=code: rst_stream(n, code),
            code={
                ErrorCode.REFUSED_STREAM: "UNAVAILABLE",
                ErrorCode.CANCEL: "CANCELLED",
                ErrorCode.ENHANCE_YOUR_CALM: "RESOURCE_EXHAUSTED",
                ErrorCode.INADEQUATE_SECURITY: "PERMISSION_DENIED",
            }.get(code, "INTERNAL"),
        )
        for code in ErrorCode
    },
    "reset: a code of the future": Answer(says=lambda n: rst_stream(n, 0xFF), code="INTERNAL"),
    "reset after headers": Answer(
        says=lambda n: begin(n, ("head", "1")) + rst_stream(n, ErrorCode.INTERNAL_ERROR),
        code="INTERNAL",
        initial=(("head", "1"),),
    ),
    "GOAWAY above the call, then the answer": Answer(
        says=lambda n: goaway(frames.LAST_STREAM) + answer(n, REPLY), reply=REPLY
    ),
    "GOAWAY twice, then the answer": Answer(
        says=lambda n: goaway(frames.LAST_STREAM) + goaway(n + 2) + answer(n, REPLY), reply=REPLY
    ),
    "a window's update by 0": Answer(
        says=lambda n: window_update(n, 0),
        code="INTERNAL",
        grpcio="UNKNOWN",
        why="the stream error PROTOCOL_ERROR is INTERNAL; it takes it for one of the connection",
    ),
    "a window beyond its limit": Answer(
        says=lambda n: window_update(n, 2**31 - 1) + window_update(n, 2**31 - 1) + answer(n, REPLY),
        reply=REPLY,
    ),
    # -- what breaks the connection
    "a block that is no HPACK": Answer(
        says=lambda n: frames.frame(frames.HEADERS, 4, n, b"\xff\xff\xff\xff\xff\xff"),
        code="UNAVAILABLE",
        breaks=True,
        grpcio="INTERNAL",
        why="the connection is gone: to its calls that is UNAVAILABLE",
    ),
    "an index into an empty table": Answer(
        says=lambda n: frames.frame(frames.HEADERS, 4, n, b"\xbe"),
        code="UNAVAILABLE",
        breaks=True,
        grpcio="INTERNAL",
        why="the connection is gone: to its calls that is UNAVAILABLE",
    ),
    "a frame too large": Answer(
        says=lambda n: frames.frame(frames.DATA, 0, n, bytes(16_385)),
        code="UNAVAILABLE",
        breaks=True,
        grpcio="DEADLINE_EXCEEDED",
        why="it passes over what RFC 9113 calls an error of the connection",
    ),
    "padding beyond the frame": Answer(
        says=lambda n: begin(n) + frames.frame(frames.DATA, frames.PADDED, n, b"\x05abc"),
        code="UNAVAILABLE",
        breaks=True,
        grpcio="INTERNAL",
        why="the connection is gone: to its calls that is UNAVAILABLE",
    ),
    "HEADERS within a block": Answer(
        says=lambda n: frames.frame(frames.HEADERS, 0, n, b"") + begin(n),
        code="UNAVAILABLE",
        breaks=True,
        grpcio="UNKNOWN",
        why="the connection is gone: to its calls that is UNAVAILABLE",
    ),
    "RST_STREAM of three bytes": Answer(
        says=lambda n: frames.frame(frames.RST_STREAM, 0, n, b"abc"),
        code="UNAVAILABLE",
        breaks=True,
        grpcio="UNKNOWN",
        why="the connection is gone: to its calls that is UNAVAILABLE",
    ),
    "PING of seven bytes": Answer(
        says=lambda n: frames.frame(frames.PING, 0, 0, b"1234567"),
        code="UNAVAILABLE",
        breaks=True,
        grpcio="UNKNOWN",
        why="the connection is gone: to its calls that is UNAVAILABLE",
    ),
    "SETTINGS of five bytes": Answer(
        says=lambda n: frames.frame(frames.SETTINGS, 0, 0, b"12345"),
        code="UNAVAILABLE",
        breaks=True,
        grpcio="UNKNOWN",
        why="the connection is gone: to its calls that is UNAVAILABLE",
    ),
    "PUSH_PROMISE": Answer(
        says=lambda n: frames.frame(frames.PUSH_PROMISE, 4, n, b"\0\0\0\2"),
        code="UNAVAILABLE",
        breaks=True,
        grpcio="DEADLINE_EXCEEDED",
        why="it passes over what RFC 9113 calls an error of the connection",
    ),
    "DATA on a stream that never was": Answer(
        says=lambda n: data(n + 200, b"x"),
        code="UNAVAILABLE",
        breaks=True,
        grpcio="DEADLINE_EXCEEDED",
        why="it passes over what RFC 9113 calls an error of the connection",
    ),
    "DATA on stream 0": Answer(
        says=lambda n: data(0, b"x"),
        code="UNAVAILABLE",
        breaks=True,
        grpcio="DEADLINE_EXCEEDED",
        why="it passes over what RFC 9113 calls an error of the connection",
    ),
    "HEADERS on an even stream": Answer(
        says=lambda n: begin(2),
        code="UNAVAILABLE",
        breaks=True,
        grpcio="DEADLINE_EXCEEDED",
        why="it passes over what RFC 9113 calls an error of the connection",
    ),
}
