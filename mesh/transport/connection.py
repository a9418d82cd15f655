"""
One HTTP/2 connection of a gRPC client: bytes in, bytes out, and a call's end told once.

    request(stream) --> [waiting: the server's limit of streams] --> HEADERS, DATA --> ... --> end
                                                                        ^ windows, frame size
    receive(bytes)  --> frames --> streams --> on_end(stream)      out() --> bytes

Pure: no socket, no clock.  Two rules for who changes it: a stream that is not in `streams` has been
told its end, and every frame that can break one stream only resets that one, while what breaks the
connection raises ProtocolError out of `receive`, for the owner to say `lost` after sending it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from mesh.errors import Code, Processed
from mesh.transport import frames
from mesh.transport.fields import Fields, FieldsReader, Pairs
from mesh.transport.frames import HEADER, LONG, ErrorCode, ProtocolError
from mesh.transport.message import PREFIX, MessageError, unpack

# What a server may send before we read: for a stream, and for the connection.
STREAM_WINDOW = 1 << 20
CONNECTION_WINDOW = 1 << 24
# How many calls may wait for a server that allows no more streams.
MOST_WAITING = 65_536
# Answers to PING and SETTINGS that a peer may leave unread, and pieces of one header block.
MOST_UNREAD = 1_000
MOST_PIECES = 128

# "HTTP2 error code to gRPC status code", where not INTERNAL - gRPC over HTTP2
_RESET = {
    ErrorCode.REFUSED_STREAM: Code.UNAVAILABLE,
    ErrorCode.CANCEL: Code.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: Code.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: Code.PERMISSION_DENIED,
}
# "HTTP to gRPC Status Code Mapping", where not UNKNOWN
_HTTP = {
    "400": Code.INTERNAL,
    "401": Code.UNAUTHENTICATED,
    "403": Code.PERMISSION_DENIED,
    "404": Code.UNIMPLEMENTED,
    **dict.fromkeys(("429", "502", "503", "504"), Code.UNAVAILABLE),
}


class Owner(Protocol):
    """Who moves the bytes."""

    def wake(self) -> None:
        """There is something to send, after there was nothing."""

    def greeted(self) -> None:
        """The server's SETTINGS are here: calls can be made."""

    def going(self, code: int, debug: bytes) -> None:
        """The server said GOAWAY: what is under way may end, nothing new begins."""


class Stream:
    """One unary call here; `on_end` is called once, when `status` and what follows are known."""

    __slots__ = (
        *("_buffer", "_compressed", "_credit", "_first", "_number", "_unsent", "_window"),
        *("details", "initial", "on_end", "processed", "reply", "seen", "status", "trailing"),
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
        self._number = 0
        self._first: Fields | None = None
        self._buffer: bytearray | None = None
        self._compressed = False
        self._credit = STREAM_WINDOW
        # What is still to be sent, where not all of it went at once, and how much may.
        self._unsent: memoryview | None = None
        self._window = 0


class Connection:
    """The client's side of a connection; `largest_reply` and `largest_headers` in bytes."""

    def __init__(self, owner: Owner, *, largest_reply: int, largest_headers: int) -> None:
        self.streams: dict[int, Stream] = {}
        # Whether new calls are taken: from the server's SETTINGS to its GOAWAY.
        self.open = False
        # Whether the socket takes no more for now.
        self.paused = False
        self._owner = owner
        self._largest_reply = largest_reply
        self._largest_headers = largest_headers
        self._reader = FieldsReader(largest_headers)
        greeting = {
            frames.HEADER_TABLE_SIZE: 0,
            frames.ENABLE_PUSH: 0,
            frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            frames.MAX_HEADER_LIST_SIZE: largest_headers,
        }
        more = LONG.pack(CONNECTION_WINDOW - frames.FIRST_WINDOW)
        self._out: list[bytes] = [
            frames.PREFACE
            + frames.settings(greeting)
            + frames.frame(frames.WINDOW_UPDATE, 0, 0, more)
        ]
        self._rest = b""
        self._next = 1
        self._greeted = self._gone = False
        self._credit = CONNECTION_WINDOW
        self._unread = 0
        # What the server allows.
        self._window = frames.FIRST_WINDOW
        self._first_window = frames.FIRST_WINDOW
        self._largest_frame = frames.FIRST_FRAME_SIZE
        self._most_streams = frames.LAST_STREAM
        self._most_headers = frames.LAST_STREAM
        # A header block that is sent without a second look.
        self._small_block = frames.FIRST_FRAME_SIZE
        self._waiting: dict[Stream, tuple[bytes, bytes]] = {}
        self._sending: deque[Stream] = deque()
        # A header block that is not whole: its stream, flags and pieces.
        self._block: tuple[int, int, list[bytes]] | None = None

    # -- what the owner does

    def out(self) -> bytes:
        """What is to be sent now."""
        found = self._out
        self._out = []
        return found[0] if len(found) == 1 else b"".join(found)

    def request(self, stream: Stream, block: bytes, message: bytes) -> None:
        """Send a call: its header block, and its message with prefix; at once or when it may."""
        size = len(message)
        if (
            self.open
            and not self.paused
            and size <= self._window
            and size <= self._first_window
            and size <= self._largest_frame
            and len(block) <= self._small_block
            and len(self.streams) < self._most_streams
            and not self._waiting
            and not self._sending
        ):
            number = stream._number = self._next
            self._next = number + 2
            self._window -= size
            self.streams[number] = stream
            head = len(block)
            self._send(
                HEADER.pack(head >> 8, head & 0xFF, frames.HEADERS, frames.END_HEADERS, number)
                + block
                + HEADER.pack(size >> 8, size & 0xFF, frames.DATA, frames.END_STREAM, number)
                + message
            )
            if number >= frames.LAST_STREAM - 2:
                self._leave(ErrorCode.NO_ERROR, b"stream identifiers are used up")
        else:
            self._queue(stream, block, message)

    def cancel(self, stream: Stream) -> None:
        """Nobody waits for this call any more; its end is not told."""
        if self._waiting.pop(stream, None) is None and self._drop(stream):
            self._reset(stream, ErrorCode.CANCEL)
            self._go_on()

    def resume(self) -> None:
        """The socket takes more again."""
        self.paused = False
        self._unread = 0
        self._go_on()

    def ping(self) -> None:
        """Ask the peer for a sign of life; its answer is any byte."""
        self._send(frames.frame(frames.PING, 0, 0, b"mesh\0\0\0\0"))

    def broken(self, error: ProtocolError) -> None:
        """Say to the peer what it did wrong; nothing is taken after it."""
        self.open = False
        debug = str(error).encode("utf-8", "replace")[:256]
        self._send(frames.frame(frames.GOAWAY, 0, 0, LONG.pack(0) + LONG.pack(error.code) + debug))

    def lost(self, why: str) -> None:
        """The connection is gone: so are the calls on it, and those that waited never left."""
        self.open = False
        waiting, self._waiting = list(self._waiting), {}
        for stream in list(self.streams.values()):
            self._end(stream, Code.UNAVAILABLE, why)
        for stream in waiting:
            self._told(stream, Code.UNAVAILABLE, why, Processed.NO)

    @property
    def idle(self) -> bool:
        """Whether no call is here."""
        return not self.streams and not self._waiting

    # -- sending

    def _send(self, data: bytes) -> None:
        out = self._out
        out.append(data)
        if len(out) == 1:
            self._owner.wake()

    def _queue(self, stream: Stream, block: bytes, message: bytes) -> None:
        if not self.open or len(self._waiting) >= MOST_WAITING:
            why = "too many calls wait for this connection" if self.open else "it takes no calls"
            self._told(stream, Code.UNAVAILABLE, why, Processed.NO)
            return
        if len(block) > self._most_headers:
            why = f"{len(block)} bytes of metadata, and the server takes {self._most_headers}"
            self._told(stream, Code.RESOURCE_EXHAUSTED, why, Processed.UNKNOWN)
            return
        self._waiting[stream] = (block, message)
        self._go_on()

    def _go_on(self) -> None:
        """Start what waits, and send on what has begun, as far as the server and the socket let."""
        while self._waiting and not self.paused and len(self.streams) < self._most_streams:
            if not self.open:
                break
            stream = next(iter(self._waiting))
            block, message = self._waiting.pop(stream)
            number = stream._number = self._next
            self._next = number + 2
            self.streams[number] = stream
            self._send(frames.header_frames(number, block, self._largest_frame))
            stream._unsent, stream._window = memoryview(message), self._first_window
            self._sending.append(stream)
            if number >= frames.LAST_STREAM - 2:
                self._leave(ErrorCode.NO_ERROR, b"stream identifiers are used up")
        sending = self._sending
        while sending and self._window > 0 and not self.paused:
            stream = sending.popleft()
            unsent = stream._unsent
            size = min(self._largest_frame, self._window, stream._window)
            if unsent is None or size <= 0:
                continue  # it has ended; or WINDOW_UPDATE puts it back
            part, rest = unsent[:size], unsent[size:]
            self._window -= len(part)
            stream._window -= len(part)
            flags = 0 if rest else frames.END_STREAM
            self._send(frames.frame(frames.DATA, flags, stream._number, bytes(part)))
            stream._unsent = rest or None
            if rest:
                sending.append(stream)

    def _reset(self, stream: Stream, code: ErrorCode) -> None:
        self._send(frames.frame(frames.RST_STREAM, 0, stream._number, LONG.pack(code)))

    def _answer(self, data: bytes) -> None:
        """Answer what a peer may ask as often as it likes, unless it does not read the answers."""
        if self.paused:
            self._unread += 1
            if self._unread > MOST_UNREAD:
                raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "answers to PING are not read")
        self._send(data)

    # -- receiving

    def receive(self, data: bytes) -> None:
        """Take what the peer sent; ProtocolError when it is not HTTP/2 as it should be."""
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        if not self._greeted and data.startswith(b"HTTP/"):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "the server speaks HTTP/1")
        while size - at >= 9:
            high, low, kind, flags, number = HEADER.unpack_from(data, at)
            length = high << 8 | low
            if length > frames.FIRST_FRAME_SIZE:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            start, end = at + 9, at + 9 + length
            if end > size:
                break
            at = end
            if kind == frames.DATA and self._block is None:
                self._data(flags, number & frames.LAST_STREAM, data[start:end])
            elif kind == frames.HEADERS and flags & 0x2C == frames.END_HEADERS:
                if self._block is not None:
                    raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "HEADERS within a header block")
                self._headers(flags, number & frames.LAST_STREAM, data[start:end])
            else:
                self._other(kind, flags, number & frames.LAST_STREAM, data[start:end])
        self._rest = data[at:] if at < size else b""

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._credit -= size
        if self._credit <= CONNECTION_WINDOW // 2:
            if self._credit < 0:
                raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the window")
            more = LONG.pack(CONNECTION_WINDOW - self._credit)
            self._send(frames.frame(frames.WINDOW_UPDATE, 0, 0, more))
            self._credit = CONNECTION_WINDOW
        if flags & frames.PADDED:
            payload = frames.content(flags & frames.PADDED, payload)
        stream = self.streams.get(number)
        if stream is None:
            self._known(number, "DATA")
            return
        if stream._first is None:
            self._fail(stream, Code.INTERNAL, "DATA before HEADERS", ErrorCode.PROTOCOL_ERROR)
            return
        stream._credit -= size
        if stream._credit < 0:
            why = "more DATA than the stream's window"
            self._fail(stream, Code.INTERNAL, why, ErrorCode.FLOW_CONTROL_ERROR)
            return
        if payload and not self._take(stream, payload):
            return
        if flags & frames.END_STREAM:
            # "if grpc-status was not provided [...] the status is UNKNOWN" - HTTP to gRPC mapping
            self._finish(stream, Code.UNKNOWN, "the server ended the call without a status")
        elif stream._credit <= STREAM_WINDOW // 2:
            more = LONG.pack(STREAM_WINDOW - stream._credit)
            self._send(frames.frame(frames.WINDOW_UPDATE, 0, number, more))
            stream._credit = STREAM_WINDOW

    def _take(self, stream: Stream, payload: bytes) -> bool:
        """Add to a reply; False when that ended the stream."""
        if stream.reply is not None:
            why = "a second reply to a unary call"
            self._fail(stream, Code.INTERNAL, why, ErrorCode.CANCEL)
            return False
        buffer = stream._buffer
        if buffer is not None or len(payload) < 5:
            buffer = stream._buffer = buffer if buffer is not None else bytearray()
            buffer += payload
            if len(buffer) < 5:
                return True
        whole = buffer if buffer is not None else payload
        compressed, size = PREFIX.unpack_from(whole)
        if size > self._largest_reply:
            why = f"Received message larger than max ({size} vs. {self._largest_reply})"
            self._fail(stream, Code.RESOURCE_EXHAUSTED, why, ErrorCode.CANCEL)
            return False
        if len(whole) == size + 5:
            stream.reply = bytes(whole[5:])
            stream._compressed, stream._buffer = compressed != 0, None
        elif len(whole) > size + 5:
            self._fail(stream, Code.INTERNAL, "a second reply to a unary call", ErrorCode.CANCEL)
            return False
        elif buffer is None:
            stream._buffer = bytearray(payload)
        return True

    def _headers(self, flags: int, number: int, block: bytes) -> None:
        stream = self.streams.get(number)
        if stream is None:
            self._known(number, "HEADERS")
            return
        fields = self._reader.read(block)
        ended = flags & frames.END_STREAM
        if fields is None:
            why = f"more than {self._largest_headers} bytes of metadata"
            self._fail(stream, Code.RESOURCE_EXHAUSTED, why, ErrorCode.CANCEL)
        elif stream._first is not None:
            if ended:
                self._end_with(stream, fields)
            else:
                why = "trailers that do not end the call"
                self._fail(stream, Code.INTERNAL, why, ErrorCode.PROTOCOL_ERROR)
        elif ended:
            # "Trailers-Only": who sends it says nothing before it.
            stream._first = fields
            self._end_with(stream, fields)
        elif not fields.http:
            why = "headers without :status"
            self._fail(stream, Code.INTERNAL, why, ErrorCode.PROTOCOL_ERROR)
        elif not fields.http.startswith("1"):
            stream._first, stream.initial, stream.seen = fields, fields.metadata, True
            if fields.http != "200" or fields.foreign:
                code, why = _refusal(fields)
                self._fail(stream, code, why, ErrorCode.CANCEL)

    def _end_with(self, stream: Stream, fields: Fields) -> None:
        """The call's last fields are here."""
        stream.trailing = fields.metadata
        if fields.status is not None:
            self._finish(stream, Code(fields.status), fields.message)
            return
        first = stream._first or fields
        code, why = Code.UNKNOWN, "the server ended the call without a status"
        if first.http != "200" or first.foreign:
            code, why = _refusal(first)
        self._finish(stream, code, why)

    def _finish(self, stream: Stream, code: Code, details: str) -> None:
        """The server has ended the call in order."""
        if stream._unsent is not None:
            # "a client MAY [...] RST_STREAM" what it has not sent whole and nobody reads any more.
            self._reset(stream, ErrorCode.NO_ERROR)
        if code is Code.OK:
            first = stream._first
            if stream.reply is None:
                code, details = Code.INTERNAL, "the server said OK and sent no whole reply"
            elif stream._compressed:
                encoding = first.encoding if first is not None else ""
                try:
                    stream.reply = unpack(stream.reply, encoding, self._largest_reply)
                except MessageError as error:
                    code = Code.RESOURCE_EXHAUSTED if error.too_large else Code.INTERNAL
                    details = str(error)
        self._end(stream, code, details)

    def _other(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """Every frame that is rare."""
        if (self._block is not None) is not (kind == frames.CONTINUATION):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"frame {kind} around a header block")
        if not self._greeted and kind != frames.SETTINGS:
            # "The server connection preface consists of a [...] SETTINGS frame [...] that MUST be
            # the first frame the server sends" - RFC 9113, 3.4
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"frame {kind} before SETTINGS")
        if (number == 0) is not (
            kind in (frames.SETTINGS, frames.PING, frames.GOAWAY)
        ) and kind in (
            *(frames.HEADERS, frames.RST_STREAM, frames.SETTINGS, frames.PING, frames.GOAWAY),
        ):
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"frame {kind} on stream {number}")
        taken = self._taken.get(kind)
        if taken is not None:  # "MUST ignore and discard frames of unknown types" - RFC 9113, 4.1
            taken(self, flags, number, payload)

    def _begin_block(self, flags: int, number: int, payload: bytes) -> None:
        piece = frames.content(flags, payload)
        if flags & frames.END_HEADERS:
            self._headers(flags, number, piece)
        else:
            self._block = (number, flags, [piece])

    def _continue_block(self, flags: int, number: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != number:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"CONTINUATION on stream {number}")
        _, first, pieces = self._block
        pieces.append(payload)
        if len(pieces) > MOST_PIECES or sum(map(len, pieces)) > 2 * self._largest_headers:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "a header block without end")
        if flags & frames.END_HEADERS:
            self._block = None
            self._headers(first, number, b"".join(pieces))

    def _reset_by_peer(self, flags: int, number: int, payload: bytes) -> None:
        code = frames.long_of("RST_STREAM", payload)
        stream = self.streams.get(number)
        if stream is None:
            self._known(number, "RST_STREAM")
            return
        # "MAY be used [...] to request that [the client] stop sending a request without error after
        # sending a complete response": a complete one has ended its stream here already.
        known = ErrorCode(code) if code in ErrorCode._value2member_map_ else None
        name = known.name if known is not None else str(code)
        refused = known is ErrorCode.REFUSED_STREAM
        self._end(
            stream,
            _RESET.get(known, Code.INTERNAL) if known is not None else Code.INTERNAL,
            f"the server reset the call: {name}",
            # "REFUSED_STREAM [...] no processing at all has occurred" - RFC 9113, 8.7
            Processed.REFUSED if refused else Processed.UNKNOWN,
        )

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if flags & frames.ACK:
            if payload:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement with settings")
            return
        for name, value in frames.read_settings(payload):
            if name == frames.MAX_CONCURRENT_STREAMS:
                self._most_streams = value
            elif name == frames.INITIAL_WINDOW_SIZE:
                # "adjust the size of all stream flow-control windows" - RFC 9113, 6.9.2
                for stream in self.streams.values():
                    if stream._unsent is not None:
                        self._widen(stream, value - self._first_window)
                self._first_window = value
            elif name == frames.MAX_FRAME_SIZE:
                self._largest_frame = value
            elif name == frames.MAX_HEADER_LIST_SIZE:
                self._most_headers = value
                self._small_block = min(value, frames.FIRST_FRAME_SIZE)
        self._answer(frames.frame(frames.SETTINGS, frames.ACK, 0))
        if not self._greeted:
            self._greeted = True
            self.open = not self._gone
            self._owner.greeted()
        self._go_on()

    def _pinged(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"PING of {len(payload)} bytes")
        if not flags & frames.ACK:
            self._answer(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _goaway(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) < 8:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"GOAWAY of {len(payload)} bytes")
        last = LONG.unpack_from(payload)[0] & frames.LAST_STREAM
        code = LONG.unpack_from(payload, 4)[0]
        self._leave(code, payload[8:])
        for number, stream in list(self.streams.items()):
            if number > last:
                # "streams [...] with higher identifiers [...] were not processed" - RFC 9113, 6.8
                self._end(stream, Code.UNAVAILABLE, "the server went away", Processed.REFUSED)

    def _leave(self, code: int, debug: bytes) -> None:
        """Take nothing new."""
        self.open, self._gone = False, True
        waiting, self._waiting = list(self._waiting), {}
        self._owner.going(code, debug)
        for stream in waiting:
            self._told(stream, Code.UNAVAILABLE, "the server went away", Processed.NO)

    def _window_update(self, flags: int, number: int, payload: bytes) -> None:
        more = frames.long_of("WINDOW_UPDATE", payload) & frames.LARGEST_WINDOW
        if number == 0:
            self._window += more
            if not more or self._window > frames.LARGEST_WINDOW:
                code = ErrorCode.FLOW_CONTROL_ERROR if more else ErrorCode.PROTOCOL_ERROR
                raise ProtocolError(code, f"WINDOW_UPDATE by {more}")
        else:
            stream = self.streams.get(number)
            if stream is None:
                self._known(number, "WINDOW_UPDATE")
                return
            if not more:
                why = "WINDOW_UPDATE by 0"
                self._fail(stream, Code.INTERNAL, why, ErrorCode.PROTOCOL_ERROR)
                return
            if stream._unsent is None:
                return  # all of it is sent: nothing waits for a window
            self._widen(stream, more)
        self._go_on()

    def _widen(self, stream: Stream, more: int) -> None:
        stuck = stream._window <= 0
        stream._window += more
        if stream._window > frames.LARGEST_WINDOW:
            why = "a window beyond 2^31-1"
            self._fail(stream, Code.INTERNAL, why, ErrorCode.FLOW_CONTROL_ERROR)
        elif stuck and stream._window > 0 and stream not in self._sending:
            self._sending.append(stream)

    def _pushed(self, flags: int, number: int, payload: bytes) -> None:
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE, which was declined")

    _taken = {  # noqa: RUF012 - a table of what stands above
        frames.HEADERS: _begin_block,
        frames.CONTINUATION: _continue_block,
        frames.RST_STREAM: _reset_by_peer,
        frames.SETTINGS: _settings,
        frames.PUSH_PROMISE: _pushed,
        frames.PING: _pinged,
        frames.GOAWAY: _goaway,
        frames.WINDOW_UPDATE: _window_update,
    }

    # -- ends

    def _known(self, number: int, kind: str) -> None:
        """A frame of a call that is over here is late; of one that never was, wrong."""
        if not self._greeted or number == 0 or not number % 2 or number >= self._next:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"{kind} on stream {number}")

    def _drop(self, stream: Stream) -> bool:
        stream._unsent = None
        return self.streams.pop(stream._number, None) is not None

    def _fail(self, stream: Stream, code: Code, details: str, reset: ErrorCode) -> None:
        """End a call by resetting it."""
        self._reset(stream, reset)
        self._end(stream, code, details)

    def _end(
        self,
        stream: Stream,
        code: Code,
        details: str,
        processed: Processed = Processed.UNKNOWN,
    ) -> None:
        if self._drop(stream):
            self._told(stream, code, details, processed)
            if self._waiting or self._sending:
                self._go_on()

    def _told(self, stream: Stream, code: Code, details: str, processed: Processed) -> None:
        stream.status, stream.details, stream.processed = code, details, processed
        stream.on_end(stream)


def _refusal(fields: Fields) -> tuple[Code, str]:
    """What an answer is that is none of gRPC's."""
    if fields.http != "200":
        return _HTTP.get(
            fields.http, Code.UNKNOWN
        ), f"Received http2 header with status: {fields.http}"
    return Code.UNKNOWN, f"an answer that is not gRPC: {fields.foreign}"
