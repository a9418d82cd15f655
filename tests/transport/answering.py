"""
What a server may answer to one unary call, and how the call must end: rows for two clients.

The pure tests play them to a Connection, the differential ones over a real socket to grpc.aio and
to Http2Channel.  Where grpcio ends the call otherwise, `grpcio` says how, and `why`.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from dataclasses import dataclass

from mesh.transport import frames
from mesh.transport.message import pack
from tests.transport.saying import (
    RESPONSE,
    begin,
    block,
    data,
    headers,
    ping,
    settings,
    trailers,
    window_update,
)

Pair = tuple[str, str | bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One row: the frames on the call's stream, and its end."""

    says: Callable[[int], bytes]
    code: str = "OK"
    # What the details hold, of both; and of ours alone.
    details: str = ""
    ours: str = ""
    reply: bytes | None = None
    initial: tuple[Pair, ...] = ()
    trailing: tuple[Pair, ...] = ()
    # Where grpcio ends otherwise: with which code, and why it and we do.
    grpcio: str = ""
    why: str = ""
    # Where the whole connection is given up.
    breaks: bool = False


REPLY = b"the reply"
LARGEST = 4 << 20


def compressed(payload: bytes, size: int | None = None) -> bytes:
    return struct.pack(">BI", 1, len(payload) if size is None else size) + payload


def encoded(encoding: str, payload: bytes) -> Callable[[int], bytes]:
    def says(n: int) -> bytes:
        return begin(n, ("grpc-encoding", encoding)) + data(n, compressed(payload)) + trailers(n)

    return says


def only(*pairs: Pair) -> Callable[[int], bytes]:
    """Trailers-Only."""
    return lambda n: headers(n, *RESPONSE, *pairs, end=True)


def ended(status: str, *pairs: Pair) -> Callable[[int], bytes]:
    return lambda n: begin(n) + data(n, pack(REPLY)) + trailers(n, status, *pairs)


def http(status: str, *pairs: Pair, end: bool = False) -> Callable[[int], bytes]:
    def says(n: int) -> bytes:
        first = headers(n, (":status", status), *pairs, end=end)
        return first if end else first + data(n, b"<html>", end=True)

    return says


def chopped(n: int) -> bytes:
    whole = pack(REPLY)
    return (
        begin(n) + b"".join(data(n, whole[at : at + 1]) for at in range(len(whole))) + trailers(n)
    )


def padded(n: int) -> bytes:
    def pad(kind: int, flags: int, payload: bytes, padding: int) -> bytes:
        payload = bytes((padding,)) + payload + bytes(padding)
        return frames.frame(kind, flags | frames.PADDED, n, payload)

    return (
        pad(frames.HEADERS, frames.END_HEADERS, block(*RESPONSE), 17)
        + pad(frames.DATA, 0, pack(REPLY), 255)
        + pad(frames.DATA, 0, b"", 7)
        + pad(frames.HEADERS, frames.END_HEADERS | 1, block(("grpc-status", "0")), 0)
    )


def prioritized(n: int) -> bytes:
    first = b"\0\0\0\0\x10" + block(*RESPONSE)
    return (
        frames.frame(frames.PRIORITY, 0, n, b"\0\0\0\0\x10")
        + frames.frame(frames.HEADERS, frames.END_HEADERS | frames.PRIORITIZED, n, first)
        + data(n, pack(REPLY))
        + trailers(n)
    )


def continued(n: int) -> bytes:
    def pieces(flags: int, whole: bytes) -> bytes:
        found = frames.frame(frames.HEADERS, flags, n, whole[:1])
        for at in range(1, len(whole) - 1, 7):
            found += frames.frame(
                frames.CONTINUATION, 0, n, whole[at : min(at + 7, len(whole) - 1)]
            )
        return found + frames.frame(frames.CONTINUATION, frames.END_HEADERS, n, whole[-1:])

    end = block(("grpc-status", "0"), ("tail", "1"))
    return pieces(0, block(*RESPONSE, ("head", "1"))) + data(n, pack(REPLY)) + pieces(1, end)


def surrounded(n: int) -> bytes:
    """Frames of the connection and of no known kind between those of the call."""
    noise = (
        ping()
        + ping(ack=True)
        + settings(MAX_CONCURRENT_STREAMS=7)
        + window_update(0, 1)
        + window_update(n, 1)
        + frames.frame(0xFA, 0xFF, n, b"unknown")
        + frames.frame(0xFB, 0xFF, 0, b"")
        + frames.frame(0xFC, 0xFF, 12345, b"unknown")
        + frames.frame(frames.PRIORITY, 0, 77, b"\0\0\0\0\x10")
    )
    return noise.join((b"", begin(n), data(n, pack(REPLY)), trailers(n), b""))


def percent(text: str | bytes) -> Callable[[int], bytes]:
    return only(("grpc-status", "9"), ("grpc-message", text))


def headers_of(number: int, *pairs: Pair) -> bytes:
    """A block of any size, which ends the stream."""
    whole, size = block(*pairs), frames.FIRST_FRAME_SIZE
    parts = [whole[at : at + size] for at in range(0, len(whole), size)]
    last = len(parts) - 1
    return b"".join(
        frames.frame(
            frames.CONTINUATION if at else frames.HEADERS,
            (0 if at else frames.END_STREAM) | (frames.END_HEADERS if at == last else 0),
            number,
            part,
        )
        for at, part in enumerate(parts)
    )


BOMB = gzip.compress(bytes(LARGEST + 1))
