"""
The other end of a Connection, as strict as RFC 9113: it reads and checks every byte a client sends.

    Rig().call() --> Connection.out() --> Peer.take() --> `seen`, one line a frame, and `calls`
    Rig().say(frames) --> Connection.receive() --> `ends`, in their order

The peer keeps the client's half of the bargain: windows, frame size, streams at once, identifiers,
header blocks, acknowledgements.  What breaks it is an AssertionError here, whatever is tested.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from hpack import Decoder

from mesh.transport import frames
from mesh.transport.connection import CONNECTION_WINDOW, Connection
from mesh.transport.frames import HEADER, LONG, SETTING, ErrorCode, ProtocolError
from mesh.transport.message import pack
from mesh.transport.stream import STREAM_WINDOW, Stream
from tests.transport.saying import BLOCK, PSEUDO, settings

NAMES = (
    *("DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY"),
    *("WINDOW_UPDATE", "CONTINUATION"),
)


class Call:
    """A request as the peer knows it."""

    def __init__(self, window: int) -> None:
        self.fields: list[tuple[str, str]] = []
        self.body = bytearray()
        # What the client may still send here, and what the peer may.
        self.window = window
        self.credit = STREAM_WINDOW
        self.whole = self.answered = False
        self.reset: ErrorCode | None = None

    @property
    def open(self) -> bool:
        """Whether it counts against MAX_CONCURRENT_STREAMS."""
        return self.reset is None and not (self.whole and self.answered)


class Peer:
    """Reads what a client sends, and knows what it may."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.calls: dict[int, Call] = {}
        # What the client may do, of what it was told.
        self.window = self.first_window = frames.FIRST_WINDOW
        self.largest_frame = frames.FIRST_FRAME_SIZE
        self.most_streams = frames.LAST_STREAM
        self.unacknowledged = 0
        # What the peer may send, connection-wide.
        self.credit = frames.FIRST_WINDOW
        self._rest = b""
        self._begun = False
        self._decoder = Decoder(max_header_list_size=1 << 20)
        self._block: tuple[int, int, bytearray] | None = None
        self._pings: deque[bytes] = deque()

    def open(self) -> int:
        """How many streams are open."""
        return sum(call.open for call in self.calls.values())

    # -- what the peer said, whole frames of it

    def said(self, said: bytes) -> None:
        """Take note of what the client is about to be told."""
        for kind, flags, number, payload in split(said):
            call = self.calls.get(number)
            if kind == frames.SETTINGS and not flags & frames.ACK:
                self.unacknowledged += 1
                self._allow(payload)
            elif kind == frames.WINDOW_UPDATE and len(payload) == 4:
                more = LONG.unpack(payload)[0]
                if number == 0:
                    self.window += more
                elif call is not None:
                    call.window += more
            elif kind == frames.PING and not flags & frames.ACK:
                self._pings.append(payload)
            elif kind == frames.RST_STREAM and call is not None:
                call.answered = call.whole = True
            if kind in (frames.DATA, frames.HEADERS) and call is not None:
                if kind == frames.DATA:
                    call.credit -= len(payload)
                call.answered |= bool(flags & frames.END_STREAM)
            if kind == frames.DATA:
                self.credit -= len(payload)

    def _allow(self, payload: bytes) -> None:
        for name, value in SETTING.iter_unpack(payload[: len(payload) // 6 * 6]):
            if name == frames.INITIAL_WINDOW_SIZE:
                for call in self.calls.values():
                    call.window += value - self.first_window
                self.first_window = value
            elif name == frames.MAX_FRAME_SIZE and value >= frames.FIRST_FRAME_SIZE:
                self.largest_frame = value
            elif name == frames.MAX_CONCURRENT_STREAMS:
                self.most_streams = value

    # -- what the client says

    def take(self, sent: bytes) -> None:
        """Read and check it."""
        sent = self._rest + sent
        if not self._begun and len(sent) >= len(frames.PREFACE):
            assert sent.startswith(frames.PREFACE)
            sent = sent[len(frames.PREFACE) :]
            self._begun = True
            assert sent[3] == frames.SETTINGS, "the preface's first frame is SETTINGS"
        whole = 0
        for kind, flags, number, payload in split(sent):
            whole += 9 + len(payload)
            assert len(payload) <= self.largest_frame, f"a frame of {len(payload)} bytes"
            inside = self._block is not None
            assert inside == (kind == frames.CONTINUATION), "a header block is in one piece"
            self.seen.append(told(kind, flags, number, payload))
            getattr(self, f"_{NAMES[kind].lower()}")(flags, number, payload)
        self._rest = sent[whole:]

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        assert number % 2 == 1
        assert number > max(self.calls, default=0), "identifiers grow"
        assert self.open() < self.most_streams, "more streams than MAX_CONCURRENT_STREAMS"
        self.calls[number] = Call(self.first_window)
        self._block = (number, flags, bytearray())
        self._continuation(flags, number, payload)

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        assert self._block is not None
        first, opening, gathered = self._block
        assert number == first
        gathered += payload
        if not flags & frames.END_HEADERS:
            return
        self._block = None
        call = self.calls[number]
        call.fields = [(str(n), str(v)) for n, v in self._decoder.decode(bytes(gathered))]
        names = [name for name, _ in call.fields]
        assert dict(call.fields[:4]) == PSEUDO, "pseudo-headers first, each once"
        assert not any(name.startswith(":") for name in names[4:])
        assert all(name == name.lower() for name in names)
        assert ("te", "trailers") in call.fields
        call.whole = bool(opening & frames.END_STREAM)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        call = self.calls[number]
        assert not call.whole, "DATA after END_STREAM"
        assert call.reset is None, "DATA after RST_STREAM"
        call.window -= len(payload)
        self.window -= len(payload)
        assert call.window >= 0 or not payload, f"stream {number}: beyond its window"
        assert self.window >= 0 or not payload, "beyond the connection's window"
        assert payload or flags & frames.END_STREAM, "an empty frame says nothing"
        call.body += payload
        call.whole = bool(flags & frames.END_STREAM)

    def _rst_stream(self, flags: int, number: int, payload: bytes) -> None:
        call = self.calls[number]
        assert call.reset is None, "reset twice"
        call.reset = ErrorCode(LONG.unpack(payload)[0])

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        assert number == 0
        if flags & frames.ACK:
            assert not payload
            self.unacknowledged -= 1
            assert self.unacknowledged >= 0, "an ACK of nothing"

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        assert (number, len(payload)) == (0, 8)
        if flags & frames.ACK:
            assert self._pings.popleft() == payload, "answered in order, with the same bytes"

    def _goaway(self, flags: int, number: int, payload: bytes) -> None:
        assert number == 0
        assert len(payload) >= 8

    def _window_update(self, flags: int, number: int, payload: bytes) -> None:
        more = LONG.unpack(payload)[0]
        assert 0 < more <= frames.LARGEST_WINDOW
        if number == 0:
            self.credit += more
            assert self.credit <= CONNECTION_WINDOW
        else:
            self.calls[number].credit += more
            assert self.calls[number].credit <= STREAM_WINDOW


def split(sent: bytes) -> Iterable[tuple[int, int, int, bytes]]:
    """The whole frames of it: kind, flags, stream, payload."""
    at = 0
    while len(sent) - at >= 9:
        high, low, kind, flags, number = HEADER.unpack_from(sent, at)
        end = at + 9 + (high << 8 | low)
        if end > len(sent):
            return
        yield kind, flags, number & frames.LAST_STREAM, sent[at + 9 : end]
        at = end


def told(kind: int, flags: int, number: int, payload: bytes) -> str:
    """A frame in one line, such as "DATA 1 5 END_STREAM"."""
    name = NAMES[kind]
    if kind == frames.RST_STREAM:
        return f"{name} {number} {ErrorCode(LONG.unpack(payload)[0]).name}"
    if kind == frames.GOAWAY:
        code = ErrorCode(LONG.unpack_from(payload, 4)[0]).name
        return f"{name} {LONG.unpack_from(payload)[0]} {code}"
    if kind == frames.WINDOW_UPDATE:
        return f"{name} {number} {LONG.unpack(payload)[0]}"
    if kind in (frames.SETTINGS, frames.PING):
        return f"{name} ACK" if flags & frames.ACK else name
    ends = " END_STREAM" if flags & frames.END_STREAM else ""
    size = f" {len(payload)}" if kind == frames.DATA else ""
    return f"{name} {number}{size}{ends}"


class Rig:
    """A connection, its owner and its peer; nothing between them."""

    def __init__(
        self,
        *,
        greeting: bytes | None = settings(),
        largest_reply: int = 4 << 20,
        largest_headers: int = 16 << 10,
    ) -> None:
        self.connection = Connection(
            self, largest_reply=largest_reply, largest_headers=largest_headers
        )
        self.peer = Peer()
        # The calls that were told their end, in its order; what the owner was told.
        self.ends: list[Stream] = []
        self.heard: list[str] = []
        self.error: ProtocolError | None = None
        # The first bytes are there before anybody is woken for them.
        self._woken = True
        if greeting is not None:
            self.say(greeting)
            assert self.peer.unacknowledged == 0
            assert self.error is None
            self.peer.seen.clear()
            self.heard.clear()

    # -- Owner

    def wake(self) -> None:
        self._woken = True

    def greeted(self) -> None:
        self.heard.append("greeted")

    def going(self, code: int, debug: bytes) -> None:
        name = ErrorCode(code).name if code in frames.ERROR_CODES else str(code)
        self.heard.append(f"going {name} {debug.decode()}".rstrip())

    # -- either side

    def call(self, message: bytes = b"", block: bytes = BLOCK) -> Stream:
        """Request something; streams of calls that may begin are numbered 1, 3, 5 ..."""
        stream = Stream(self.ends.append)
        self.connection.request(stream, block, pack(message))
        self.flush()
        return stream

    def say(self, *said: bytes, size: int = 1 << 30) -> None:
        """Let the peer say frames, in pieces of `size`; `error` is what was wrong with them."""
        together = b"".join(said)
        self.peer.said(together)
        for at in range(0, len(together), size):
            try:
                self.connection.receive(together[at : at + size])
            except ProtocolError as error:
                self.error = error
                self.connection.broken(error)
                self.flush()
                self.connection.lost(str(error))
            self.flush()
            if self.error is not None:
                return

    def flush(self) -> None:
        """Carry over what is to be sent."""
        sent = self.connection.out()
        assert self._woken or not sent, "bytes that nobody was woken for"
        self._woken = False
        self.peer.take(sent)

    @property
    def seen(self) -> list[str]:
        """What the client sent since this was asked."""
        seen, self.peer.seen = self.peer.seen, []
        return seen

    def told(self) -> list[str]:
        """How calls ended, by name."""
        return [
            f"{end.status.name}: {end.details}" if end.details else end.status.name
            for end in self.ends
            if end.status is not None
        ]
