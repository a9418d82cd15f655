"""
What comes in on a connection: bytes to frames, each whole and at its place.

    bytes --> | frame | frame | fra...      what is not whole waits for the rest
    HEADERS, CONTINUATION ...  --> one HEADERS with its whole block

Pure.  What no server may send raises ProtocolError, and no frame after it is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mesh.transport import frames
from mesh.transport.frames import HEADER, ErrorCode, ProtocolError

# How many frames one header block may come in.
MOST_PIECES = 128
_OF_A_STREAM = (frames.HEADERS, frames.RST_STREAM, frames.CONTINUATION, frames.PUSH_PROMISE)
_OF_NONE = (frames.SETTINGS, frames.PING, frames.GOAWAY)

# Takes a frame: flags, stream, payload.
Take = Callable[[int, int, bytes], None]


class Incoming:
    """
    Hands each frame to who takes its type.

    Of a header block that is longer than `largest_block` bytes comes only so much that who reads
    it sees that it is: it is wrong for its call, and no other call's concern.
    """

    def __init__(self, taken: Mapping[int, Take], *, largest_block: int) -> None:
        self._taken = {**taken, frames.CONTINUATION: self._continuation}
        self._headers = self._taken[frames.HEADERS]
        self._taken[frames.HEADERS] = self._begin_headers
        self._largest_block = largest_block
        self._rest = b""
        self._greeted = False
        # A header block that is not whole: its stream, flags and bytes; in how many pieces.
        self._block: tuple[int, int, bytearray] | None = None
        self._pieces = 0

    def receive(self, data: bytes) -> None:
        """Take what the peer sent."""
        if self._rest:
            data = self._rest + data
        taken = self._taken
        at, size = 0, len(data)
        while size - at >= HEADER.size:
            high, low, kind, flags, number = HEADER.unpack_from(data, at)
            length = high << 8 | low
            if not self._greeted:
                self._check_greeting(kind, data)
            if length > frames.FIRST_FRAME_SIZE:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            start = at + HEADER.size
            end = start + length
            if end > size:
                break
            at = end
            number &= frames.LAST_STREAM
            self._greeted = True
            if self._block is not None and (kind, number) != (frames.CONTINUATION, self._block[0]):
                # "CONTINUATION frames MUST be [...] a contiguous sequence" - RFC 9113, 6.10
                why = f"frame {kind} on stream {number} within a header block"
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, why)
            take = taken.get(kind)
            if (
                take is not None
            ):  # "MUST ignore and discard frames of unknown types" - RFC 9113, 4.1
                if kind in (_OF_NONE if number else _OF_A_STREAM):
                    why = f"frame {kind} on stream {number}"
                    raise ProtocolError(ErrorCode.PROTOCOL_ERROR, why)
                take(flags, number, data[start:end])
        self._rest = data[at:] if at < size else b""

    def _check_greeting(self, kind: int, data: bytes) -> None:
        if data.startswith(b"HTTP/"):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "the server speaks HTTP/1")
        if kind != frames.SETTINGS:
            # "SETTINGS [...] MUST be the first frame the server sends" - RFC 9113, 3.4
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"frame {kind} before SETTINGS")

    def _begin_headers(self, flags: int, number: int, payload: bytes) -> None:
        if flags & (frames.PADDED | frames.PRIORITIZED):
            payload = frames.content(flags, payload)
        if flags & frames.END_HEADERS:
            self._headers(flags, number, payload)
        else:
            self._block = (number, flags, bytearray(payload))
            self._pieces = 1

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._block is None:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"CONTINUATION on stream {number}")
        _, first, block = self._block
        self._pieces += 1
        if self._pieces > MOST_PIECES:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "a header block without end")
        if len(block) <= self._largest_block:
            block += payload
        if flags & frames.END_HEADERS:
            self._block = None
            self._headers(first, number, bytes(block))
