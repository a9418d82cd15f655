"""
One HTTP/2 connection of a gRPC client: bytes in, bytes out, and a call's end told once.

    request(stream, ...) --> sending --> out()
    receive(bytes) --> incoming --> stream: HEADERS, DATA, trailers --> on_end(stream)

Pure: no socket, no clock.  Two rules for who changes it: a stream that is not in `streams` has been
told its end; and a frame that is wrong for one call resets that one, while what breaks the
connection raises ProtocolError out of `receive`, for the owner to say so and hang up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mesh.errors import Code, Processed
from mesh.transport import frames
from mesh.transport.fields import FieldsReader
from mesh.transport.frames import LONG, ErrorCode, ProtocolError
from mesh.transport.incoming import Incoming, Take
from mesh.transport.sending import Sending
from mesh.transport.stream import RESET, STREAM_WINDOW, Fault, Stream

# What a server may send on the connection before it is read.
CONNECTION_WINDOW = 1 << 24
# Answers to PING and SETTINGS that a peer may leave unread.
MOST_UNREAD = 1_000

GONE = "the server went away"
NO_STATUS = "the server ended the call without a status"


class Owner(Protocol):
    """Who moves the bytes."""

    def wake(self) -> None:
        """There is something to send, after there was nothing."""

    def greeted(self) -> None:
        """The server's SETTINGS are here: calls can be made."""

    def going(self, code: int, debug: bytes) -> None:
        """The server said GOAWAY: what is under way may end, nothing new begins."""


class Connection:
    """The client's side of a connection; `largest_reply` and `largest_headers` in bytes."""

    def __init__(self, owner: Owner, *, largest_reply: int, largest_headers: int) -> None:
        self.streams: dict[int, Stream] = {}
        self.sending = Sending(self.streams, self._send, self._refuse, self._leave)
        # Send a call: a stream, its header block, and its message with prefix.
        self.request: Callable[[Stream, bytes, bytes], None] = self.sending.request
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
            frames.PREFACE,
            frames.settings(greeting),
            frames.frame(frames.WINDOW_UPDATE, 0, 0, more),
        ]
        incoming = Incoming(self._taken(), largest_block=largest_headers)
        # Take what the peer sent; ProtocolError when it is not HTTP/2 as it should be.
        self.receive: Callable[[bytes], None] = incoming.receive
        self._greeted = False
        self._credit = CONNECTION_WINDOW
        self._unread = 0

    # -- what the owner does

    @property
    def open(self) -> bool:
        """Whether new calls are taken: from the server's SETTINGS to its GOAWAY."""
        return self.sending.open

    @property
    def idle(self) -> bool:
        """Whether no call is here."""
        return not self.streams and not self.sending.waiting

    def out(self) -> bytes:
        """What is to be sent now."""
        found, self._out = self._out, []
        return found[0] if len(found) == 1 else b"".join(found)

    def cancel(self, stream: Stream) -> None:
        """Nobody waits for this call any more; its end is not told."""
        if self.sending.waiting.pop(stream, None) is None and self._drop(stream):
            self._reset(stream, ErrorCode.CANCEL)
            self.sending.go_on()

    def pause(self) -> None:
        """The socket takes no more for now."""
        self.sending.paused = True

    def resume(self) -> None:
        """The socket takes more again."""
        self.sending.paused, self._unread = False, 0
        self.sending.go_on()

    def ping(self) -> None:
        """Ask the peer for a sign of life; its answer is any byte."""
        self._send(frames.frame(frames.PING, 0, 0, b"mesh\0\0\0\0"))

    def shut(self) -> None:
        """Take no call any more; what is out goes on."""
        for stream in self.sending.shut():
            self._refuse(stream, Code.UNAVAILABLE, GONE)

    def broken(self, error: ProtocolError) -> None:
        """Say to the peer what it did wrong; nothing is taken after it."""
        self.shut()
        debug = str(error).encode("utf-8", "replace")[:256]
        self._send(frames.frame(frames.GOAWAY, 0, 0, LONG.pack(0) + LONG.pack(error.code) + debug))

    def lost(self, why: str) -> None:
        """The connection is gone, and with it the calls on it."""
        for stream in self.sending.shut():
            self._refuse(stream, Code.UNAVAILABLE, why)
        for stream in list(self.streams.values()):
            self._end(stream, Code.UNAVAILABLE, why)

    # -- sending

    def _send(self, data: bytes) -> None:
        out = self._out
        out.append(data)
        if len(out) == 1:
            self._owner.wake()

    def _reset(self, stream: Stream, code: ErrorCode) -> None:
        self._send(frames.frame(frames.RST_STREAM, 0, stream.number, LONG.pack(code)))

    def _answer(self, data: bytes) -> None:
        """Answer what a peer may ask as often as it likes, unless it does not read the answers."""
        if self.sending.paused:
            self._unread += 1
            if self._unread > MOST_UNREAD:
                raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, "answers that nobody reads")
        self._send(data)

    # -- receiving

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._credit -= size
        if self._credit <= CONNECTION_WINDOW // 2:
            more = LONG.pack(CONNECTION_WINDOW - self._credit)
            self._send(frames.frame(frames.WINDOW_UPDATE, 0, 0, more))
            self._credit = CONNECTION_WINDOW
        if flags & frames.PADDED:
            payload = frames.content(frames.PADDED, payload)
        stream = self.streams.get(number)
        if stream is None:
            self._known(number, "DATA")
            return
        if stream.first is None:
            why = "DATA before HEADERS"
            fault: Fault | None = (Code.INTERNAL, why, ErrorCode.PROTOCOL_ERROR)
        else:
            # Given back long before it is used up: no frame is larger than half a window.
            stream.credit -= size
            fault = stream.take(payload, self._largest_reply) if payload else None
        if fault is not None:
            self._fail(stream, fault)
        elif flags & frames.END_STREAM:
            self._finish(stream, Code.UNKNOWN, NO_STATUS)
        elif stream.credit <= STREAM_WINDOW // 2:
            more = LONG.pack(STREAM_WINDOW - stream.credit)
            self._send(frames.frame(frames.WINDOW_UPDATE, 0, number, more))
            stream.credit = STREAM_WINDOW

    def _headers(self, flags: int, number: int, block: bytes) -> None:
        stream = self.streams.get(number)
        if stream is None:
            self._known(number, "HEADERS")
            return
        fields = self._reader.read(block)
        fault: Fault | None = None
        if fields is None:
            why = f"more than {self._largest_headers} bytes of metadata"
            fault = (Code.RESOURCE_EXHAUSTED, why, ErrorCode.CANCEL)
        elif fields.malformed or (fields.http and stream.first is not None):
            # "Clients MUST NOT accept a malformed response" - RFC 9113, 8.1.1
            why = f"malformed headers: {fields.malformed or f':status {fields.http} in trailers'}"
            fault = (Code.INTERNAL, why[:256], ErrorCode.PROTOCOL_ERROR)
        elif flags & frames.END_STREAM:
            self._finish(stream, *stream.outcome(fields, self._largest_reply))
        elif stream.first is not None:
            fault = (Code.INTERNAL, "trailers that end nothing", ErrorCode.PROTOCOL_ERROR)
        else:
            fault = stream.begin(fields)
        if fault is not None:
            self._fail(stream, fault)

    def _rst_stream(self, flags: int, number: int, payload: bytes) -> None:
        value = frames.long_of("RST_STREAM", payload)
        stream = self.streams.get(number)
        if stream is None:
            self._known(number, "RST_STREAM")
            return
        code = ErrorCode(value) if value in frames.ERROR_CODES else ErrorCode.INTERNAL_ERROR
        name = code.name if value in frames.ERROR_CODES else str(value)
        # "REFUSED_STREAM [...] without any processing having been performed" - RFC 9113, 8.7
        refused = code is ErrorCode.REFUSED_STREAM and not stream.seen
        processed = Processed.REFUSED if refused else Processed.UNKNOWN
        status = RESET.get(code, Code.INTERNAL)
        self._end(stream, status, f"the server reset the call: {name}", processed)

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if flags & frames.ACK:
            if payload:
                raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement with settings")
            return
        for name, value in frames.read_settings(payload):
            self.sending.allow(name, value)
        self._answer(frames.frame(frames.SETTINGS, frames.ACK, 0))
        if not self._greeted:
            self._greeted = self.sending.open = True
            self._owner.greeted()
        self.sending.go_on()

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"PING of {len(payload)} bytes")
        if not flags & frames.ACK:
            self._answer(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _goaway(self, flags: int, number: int, payload: bytes) -> None:
        last, code, debug = frames.goaway_of(payload)
        self._leave(code, debug)
        for number, stream in list(self.streams.items()):
            if number > last:
                # "streams with identifiers higher than the included last stream identifier [...]
                # will not be processed" - RFC 9113, 6.8
                self._end(stream, Code.UNAVAILABLE, GONE, Processed.REFUSED)

    def _leave(self, code: int = ErrorCode.NO_ERROR, debug: bytes = b"") -> None:
        """Take no call any more; the owner knows before anybody is told to go elsewhere."""
        self.sending.open = False
        self._owner.going(code, debug)
        self.shut()

    def _window_update(self, flags: int, number: int, payload: bytes) -> None:
        more = frames.long_of("WINDOW_UPDATE", payload) & frames.LARGEST_WINDOW
        if number == 0:
            if not more:
                raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
            if not self.sending.widen_connection(more):
                raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "a window beyond 2^31-1")
        else:
            stream = self.streams.get(number)
            if stream is None:
                self._known(number, "WINDOW_UPDATE")
            elif not more:
                why = "WINDOW_UPDATE by 0"
                self._fail(stream, (Code.INTERNAL, why, ErrorCode.PROTOCOL_ERROR))
            elif stream.unsent is not None and not self.sending.widen(stream, more):
                why = "a window beyond 2^31-1"
                self._fail(stream, (Code.INTERNAL, why, ErrorCode.FLOW_CONTROL_ERROR))
        self.sending.go_on()

    def _push_promise(self, flags: int, number: int, payload: bytes) -> None:
        raise ProtocolError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE, which was declined")

    def _taken(self) -> dict[int, Take]:
        """Which frame is whose; those of other types say nothing to us."""
        return {
            frames.DATA: self._data,
            frames.HEADERS: self._headers,
            frames.RST_STREAM: self._rst_stream,
            frames.SETTINGS: self._settings,
            frames.PUSH_PROMISE: self._push_promise,
            frames.PING: self._ping,
            frames.GOAWAY: self._goaway,
            frames.WINDOW_UPDATE: self._window_update,
        }

    # -- ends

    def _known(self, number: int, kind: str) -> None:
        """A frame of a call that is over is late; one of a call that never was is wrong."""
        if number % 2 == 0 or number >= self.sending.next:
            raise ProtocolError(ErrorCode.PROTOCOL_ERROR, f"{kind} on stream {number}")

    def _fail(self, stream: Stream, fault: Fault) -> None:
        code, details, reset = fault
        self._reset(stream, reset)
        self._end(stream, code, details)

    def _finish(self, stream: Stream, code: Code, details: str) -> None:
        """The server has ended the call in order, which it may before it has read the request."""
        if stream.unsent is not None:
            self._reset(stream, ErrorCode.NO_ERROR)
        self._end(stream, code, details)

    def _end(
        self,
        stream: Stream,
        code: Code,
        details: str,
        processed: Processed = Processed.UNKNOWN,
    ) -> None:
        if self._drop(stream):
            self._tell(stream, code, details, processed)
            self.sending.go_on()

    def _drop(self, stream: Stream) -> bool:
        if stream.unsent is not None:
            self.sending.drop(stream)
        return self.streams.pop(stream.number, None) is not None

    def _refuse(self, stream: Stream, code: Code, details: str) -> None:
        elsewhere = code is Code.UNAVAILABLE
        self._tell(stream, code, details, Processed.NO if elsewhere else Processed.UNKNOWN)

    def _tell(self, stream: Stream, code: Code, details: str, processed: Processed) -> None:
        stream.status, stream.details, stream.processed = code, details, processed
        stream.on_end(stream)
