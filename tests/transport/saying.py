"""Frames as a server says them, whole and by their stream's number; and a client's own block."""

from __future__ import annotations

from mesh.transport import fields, frames
from mesh.transport.frames import LONG, ErrorCode
from mesh.transport.message import pack

PATH = "/test.Echo/unary_unary_echo"
HEAD = fields.head(PATH, "there", "test", encodings="identity, deflate, gzip")
BLOCK = HEAD.before + HEAD.after
PSEUDO = {":method": "POST", ":scheme": "http", ":path": PATH, ":authority": "there"}


def block(*pairs: tuple[str, str | bytes]) -> bytes:
    """A header block without a table: what it says it says every time."""
    return b"".join(
        fields.literal(name.encode("latin-1"), value.encode() if isinstance(value, str) else value)
        for name, value in pairs
    )


def headers(
    number: int, *pairs: tuple[str, str | bytes], end: bool = False, flags: int = 0
) -> bytes:
    """A HEADERS frame with all of its block."""
    flags |= frames.END_HEADERS | (frames.END_STREAM if end else 0)
    return frames.frame(frames.HEADERS, flags, number, block(*pairs))


RESPONSE = ((":status", "200"), ("content-type", "application/grpc"))


def begin(number: int, *more: tuple[str, str | bytes]) -> bytes:
    """A response's headers."""
    return headers(number, *RESPONSE, *more)


def data(number: int, payload: bytes, *, end: bool = False) -> bytes:
    """A DATA frame, or as many as its payload takes."""
    size = frames.FIRST_FRAME_SIZE
    parts = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
    last = len(parts) - 1
    return b"".join(
        frames.frame(frames.DATA, frames.END_STREAM if end and at == last else 0, number, part)
        for at, part in enumerate(parts)
    )


def trailers(number: int, status: str = "0", *more: tuple[str, str | bytes]) -> bytes:
    """The end of a call."""
    return headers(number, ("grpc-status", status), *more, end=True)


def answer(number: int, reply: bytes) -> bytes:
    """A whole answer: OK and a reply."""
    return begin(number) + data(number, pack(reply)) + trailers(number)


def settings(**values: int) -> bytes:
    """SETTINGS by their names in `frames`."""
    return frames.settings({getattr(frames, name): value for name, value in values.items()})


def window_update(number: int, more: int) -> bytes:
    return frames.frame(frames.WINDOW_UPDATE, 0, number, LONG.pack(more))


def rst_stream(number: int, code: int) -> bytes:
    return frames.frame(frames.RST_STREAM, 0, number, LONG.pack(code))


def ping(payload: bytes = b"12345678", *, ack: bool = False) -> bytes:
    return frames.frame(frames.PING, frames.ACK if ack else 0, 0, payload)


def goaway(last: int, code: int = ErrorCode.NO_ERROR, debug: bytes = b"") -> bytes:
    return frames.frame(frames.GOAWAY, 0, 0, LONG.pack(last) + LONG.pack(code) + debug)
