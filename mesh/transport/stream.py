"""
One unary call on a connection: its reply as it comes, and what the call has come to.

    HEADERS --> DATA ... --> trailers          take() gathers the reply, outcome() judges it all
    trailers alone                             "Trailers-Only" - gRPC over HTTP2

Pure.  A status that is missing or not gRPC's becomes one here, by the tables of the specification.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mesh.errors import Code, Processed
from mesh.transport.fields import Fields, Pairs
from mesh.transport.frames import ErrorCode
from mesh.transport.message import PREFIX, MessageError, unpack

# What a server may send of a reply before it is read.
STREAM_WINDOW = 1 << 20

# "HTTP2 error code to gRPC status code", where not INTERNAL - gRPC over HTTP2
RESET = {
    ErrorCode.REFUSED_STREAM: Code.UNAVAILABLE,
    ErrorCode.CANCEL: Code.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: Code.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: Code.PERMISSION_DENIED,
}
# "HTTP to gRPC Status Code Mapping", where not UNKNOWN
HTTP = {
    "400": Code.INTERNAL,
    "401": Code.UNAUTHENTICATED,
    "403": Code.PERMISSION_DENIED,
    "404": Code.UNIMPLEMENTED,
    **dict.fromkeys(("429", "502", "503", "504"), Code.UNAVAILABLE),
}
# Why a call fails, and what the server is told of it by RST_STREAM.
Fault = tuple[Code, str, ErrorCode]

# "Response cardinality violation (method requires exactly one response but server sends some other
# number of responses)": UNIMPLEMENTED - gRPC status codes
SECOND_REPLY: Fault = (Code.UNIMPLEMENTED, "a second reply to a unary call", ErrorCode.CANCEL)
NO_REPLY = (Code.UNIMPLEMENTED, "the server said OK and sent no reply")


class Stream:
    """A call; `on_end(stream)` is called once, when `status` and what follows it are known."""

    __slots__ = (
        *("compressed", "credit", "details", "first", "gathered", "initial", "number", "on_end"),
        *("processed", "reply", "seen", "status", "trailing", "unsent", "window"),
    )

    def __init__(self, on_end: Callable[[Stream], Any]) -> None:
        self.on_end = on_end
        # None until the end, then a gRPC status code.
        self.status: Code | None = None
        self.details = ""
        self.initial: Pairs = ()
        self.trailing: Pairs = ()
        self.reply: bytes | None = None
        # Whether the server's headers arrived, and whether a handler may have seen the call.
        self.seen = False
        self.processed = Processed.UNKNOWN
        # 0 until it is on the wire.
        self.number = 0
        # The first fields that came, and the reply while it is not whole.
        self.first: Fields | None = None
        self.gathered: bytearray | None = None
        self.compressed = False
        # How much more the server may send.
        self.credit = STREAM_WINDOW
        # What is still to be sent, where not all of it went at once, and how much of it may.
        self.unsent: memoryview | None = None
        self.window = 0

    def begin(self, fields: Fields) -> Fault | None:
        """Headers that do not end the call."""
        if not fields.http:
            return Code.INTERNAL, "headers without :status", ErrorCode.PROTOCOL_ERROR
        if fields.http.startswith("1"):
            return None  # "informational responses": the real one is still to come
        self.first, self.initial, self.seen = fields, fields.metadata, True
        return None if _is_grpc(fields) else (*_refusal(fields), ErrorCode.CANCEL)

    def take(self, payload: bytes, largest: int) -> Fault | None:
        """A piece of the reply, which may be `largest` bytes long."""
        if self.reply is not None:
            return SECOND_REPLY
        gathered = self.gathered
        if gathered is not None or len(payload) < PREFIX.size:
            gathered = self.gathered = bytearray() if gathered is None else gathered
            gathered += payload
            if len(gathered) < PREFIX.size:
                return None
        whole = payload if gathered is None else gathered
        compressed, size = PREFIX.unpack_from(whole)
        if size > largest:
            # In the words of grpcio, which people look for in their logs.
            why = f"Received message larger than max ({size} vs. {largest})"
            return Code.RESOURCE_EXHAUSTED, why, ErrorCode.CANCEL
        left = size + PREFIX.size - len(whole)
        if left < 0:
            return SECOND_REPLY
        if left == 0:
            self.reply = bytes(whole[PREFIX.size :])
            self.compressed, self.gathered = compressed != 0, None
        elif gathered is None:
            self.gathered = bytearray(payload)
        return None

    def outcome(self, last: Fields, largest: int) -> tuple[Code, str]:
        """What the call has come to, by its last fields: the status and its message."""
        if self.first is None:
            self.first = last
        self.trailing = last.metadata
        if last.status is None:
            return _refusal(self.first)
        code, message = Code(last.status), last.message
        if code is not Code.OK:
            return code, message
        if self.reply is None:
            if self.gathered is None:
                return NO_REPLY
            return Code.INTERNAL, f"the reply broke off after {len(self.gathered)} bytes"
        if self.compressed:
            try:
                self.reply = unpack(self.reply, self.first.encoding, largest)
            except MessageError as error:
                code = Code.RESOURCE_EXHAUSTED if error.too_large else Code.INTERNAL
                return code, str(error)
        return code, message


def _is_grpc(fields: Fields) -> bool:
    return fields.http == "200" and not fields.foreign


def _refusal(fields: Fields) -> tuple[Code, str]:
    """What an answer without a status of gRPC's is."""
    if fields.http != "200":
        code = HTTP.get(fields.http, Code.UNKNOWN)
        return code, f"Received http2 header with status: {fields.http}"
    if fields.foreign:
        return Code.UNKNOWN, f"an answer that is not gRPC: {fields.foreign}"
    return Code.UNKNOWN, "the server ended the call without a status"
