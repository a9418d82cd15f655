"""
HTTP/2 frames as bytes, and what can be wrong with those of a server (RFC 9113).

    length 24 | type 8 | flags 8 | stream 31 | payload

Pure.  Errors are the connection's: they end it, with the code that the peer is told in GOAWAY.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Length in two parts, type, flags, stream.
HEADER = struct.Struct(">HBBBI")
LONG = struct.Struct(">I")
SETTING = struct.Struct(">HI")
GOAWAY_HEAD = struct.Struct(">II")

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE = range(9)
CONTINUATION = 9

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = range(
    1, 6
)
MAX_HEADER_LIST_SIZE = 6

# "the initial value is 65,535 octets", "2^14 (16,384) octets" - RFC 9113, 6.5.2
FIRST_WINDOW = 65_535
FIRST_FRAME_SIZE = 16_384
LARGEST_FRAME_SIZE = 2**24 - 1
LARGEST_WINDOW = 2**31 - 1
LAST_STREAM = 2**31 - 1


class ErrorCode(IntEnum):
    """Why a stream was reset or a connection ended (RFC 9113, 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


ERROR_CODES = frozenset(ErrorCode)


class ProtocolError(Exception):
    """The peer broke HTTP/2: the connection ends, and the peer is told `code`."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(f"{message} ({code.name})")
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    size = len(payload)
    return HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def header_frames(stream: int, block: bytes, largest: int) -> bytes:
    """A header block as HEADERS and as many CONTINUATION frames as it takes."""
    if len(block) <= largest:
        return frame(HEADERS, END_HEADERS, stream, block)
    parts = [block[at : at + largest] for at in range(0, len(block), largest)]
    last = len(parts) - 1
    return b"".join(
        frame(CONTINUATION if at else HEADERS, END_HEADERS if at == last else 0, stream, part)
        for at, part in enumerate(parts)
    )


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*pair) for pair in values.items()))


def read_settings(payload: bytes) -> Iterator[tuple[int, int]]:
    """The settings of a frame's payload; ProtocolError for a value that no peer may send."""
    if len(payload) % 6:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes")
    for name, value in SETTING.iter_unpack(payload):
        if name == ENABLE_PUSH and value:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"ENABLE_PUSH {value} of a server")
        if name == INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
            raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE {value}")
        if name == MAX_FRAME_SIZE and not FIRST_FRAME_SIZE <= value <= LARGEST_FRAME_SIZE:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"MAX_FRAME_SIZE {value}")
        yield name, value


def content(flags: int, payload: bytes) -> bytes:
    """What a DATA or HEADERS frame holds, without its padding and priority."""
    if flags & PADDED:
        padding = payload[0] if payload else 0
        if padding >= len(payload):
            raise ProtocolError(
                ErrorCode.PROTOCOL_ERROR, f"padding of {padding} in too short a frame"
            )
        payload = payload[1 : len(payload) - padding]
    if flags & PRIORITIZED:
        if len(payload) < 5:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "a priority in too short a frame")
        payload = payload[5:]
    return payload


def long_of(kind: str, payload: bytes) -> int:
    """The 32-bit number that is the whole payload of RST_STREAM or WINDOW_UPDATE."""
    if len(payload) != 4:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"{kind} of {len(payload)} bytes")
    number: int = LONG.unpack(payload)[0]
    return number


def goaway_of(payload: bytes) -> tuple[int, int, bytes]:
    """GOAWAY's last stream that was processed, its error code, and its debug data."""
    if len(payload) < 8:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"GOAWAY of {len(payload)} bytes")
    last, code = GOAWAY_HEAD.unpack_from(payload)
    return last & LAST_STREAM, code, payload[8:]
