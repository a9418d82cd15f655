"""
What goes out of a connection, and when it may: streams, windows, frame sizes.

    request --> at once, in one write        where nothing is in the way
            --> waiting --> streams          the server's MAX_CONCURRENT_STREAMS, the socket
                               --> sending   what its windows let through, in turn

Pure.  Bytes leave by `write`; a call that cannot be sent is given back by `refuse`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from mesh.errors import Code
from mesh.transport import frames
from mesh.transport.frames import HEADER, ErrorCode, ProtocolError
from mesh.transport.stream import Stream

# How many calls may wait for a server that allows no more streams.
MOST_WAITING = 65_536

# A call that never left, the status that it gets, and why; UNAVAILABLE says that another
# connection may take it.
Refuse = Callable[[Stream, Code, str], None]


class Sending:
    """The sending half; what the server allows is as RFC 9113 has it until SETTINGS say more."""

    def __init__(
        self,
        streams: dict[int, Stream],
        write: Callable[[bytes], None],
        refuse: Refuse,
        used_up: Callable[[], None],
    ) -> None:
        # Whether new calls are taken, and whether the socket takes no bytes for now.
        self.open = False
        self.paused = False
        # OrderedDict: of a plain dict, taking the first again and again costs its whole length.
        self.waiting: OrderedDict[Stream, tuple[bytes, bytes]] = OrderedDict()
        self.next = 1
        self._streams = streams
        self._write = write
        self._refuse = refuse
        # The connection has had all the streams that it can have.
        self._used_up = used_up
        self._sending: OrderedDict[Stream, None] = OrderedDict()
        # What the server allows.
        self._window = self._first_window = frames.FIRST_WINDOW
        self._largest_frame = frames.FIRST_FRAME_SIZE
        self._most_streams = self._most_headers = frames.LAST_STREAM
        # A header block that is sent without a second look.
        self._small_block = frames.FIRST_FRAME_SIZE

    def request(self, stream: Stream, block: bytes, message: bytes) -> None:
        """Send a call, at once or when it may be."""
        size = len(message)
        if (
            self.open
            and not self.paused
            and size <= self._window
            and size <= self._first_window
            and size <= self._largest_frame
            and len(block) <= self._small_block
            and len(self._streams) < self._most_streams
            and not self.waiting
            and not self._sending
        ):
            number = self._begin(stream)
            self._window -= size
            head = len(block)
            self._write(
                HEADER.pack(head >> 8, head & 0xFF, frames.HEADERS, frames.END_HEADERS, number)
                + block
                + HEADER.pack(size >> 8, size & 0xFF, frames.DATA, frames.END_STREAM, number)
                + message
            )
        elif not self.open:
            self._refuse(stream, Code.UNAVAILABLE, "the connection takes no calls")
        elif len(self.waiting) >= MOST_WAITING:
            self._refuse(stream, Code.UNAVAILABLE, "too many calls wait for this connection")
        elif len(block) > self._most_headers:
            why = f"{len(block)} bytes of metadata, and the server takes {self._most_headers}"
            self._refuse(stream, Code.RESOURCE_EXHAUSTED, why)
        else:
            self.waiting[stream] = (block, message)
            self.go_on()

    def go_on(self) -> None:
        """Begin what waits, and send on what has begun, as far as the server and the socket let."""
        waiting = self.waiting
        while waiting and self.open and not self.paused and len(self._streams) < self._most_streams:
            stream, (block, message) = waiting.popitem(last=False)
            number = self._begin(stream)
            self._write(frames.header_frames(number, block, self._largest_frame))
            stream.unsent, stream.window = memoryview(message), self._first_window
            self._sending[stream] = None
        sending = self._sending
        while sending and self._window > 0 and not self.paused:
            stream, _ = sending.popitem(last=False)
            unsent = stream.unsent
            size = min(self._largest_frame, self._window, stream.window)
            if unsent is None or size <= 0:
                continue  # WINDOW_UPDATE puts it back
            part, rest = unsent[:size], unsent[size:]
            self._window -= len(part)
            stream.window -= len(part)
            flags = 0 if rest else frames.END_STREAM
            self._write(frames.frame(frames.DATA, flags, stream.number, bytes(part)))
            stream.unsent = rest or None
            if rest:
                sending[stream] = None

    def _begin(self, stream: Stream) -> int:
        number = stream.number = self.next
        self.next = number + 2
        self._streams[number] = stream
        if self.next >= frames.LAST_STREAM:
            # "can establish a new connection for new streams" - RFC 9113, 5.1.1
            self._used_up()
        return number

    def shut(self) -> list[Stream]:
        """Take no call any more; those that wait, which never left, are given back."""
        self.open = False
        waiting, self.waiting = list(self.waiting), OrderedDict()
        return waiting

    def drop(self, stream: Stream) -> None:
        """A call has ended: nothing more of it is sent."""
        stream.unsent = None
        self._sending.pop(stream, None)

    # -- what the server allows

    def allow(self, name: int, value: int) -> None:
        """A setting of the server's."""
        if name == frames.MAX_CONCURRENT_STREAMS:
            self._most_streams = value
        elif name == frames.INITIAL_WINDOW_SIZE:
            # "adjust the size of all stream flow-control windows" - RFC 9113, 6.9.2
            more, self._first_window = value - self._first_window, value
            for stream in list(self._streams.values()):
                if stream.unsent is not None and not self.widen(stream, more):
                    raise ProtocolError(ErrorCode.FLOW_CONTROL_ERROR, "a window beyond 2^31-1")
        elif name == frames.MAX_FRAME_SIZE:
            self._largest_frame = value
        elif name == frames.MAX_HEADER_LIST_SIZE:
            self._most_headers = value
            self._small_block = min(value, frames.FIRST_FRAME_SIZE)

    def widen_connection(self, more: int) -> bool:
        """The server takes more on the connection; whether that can be."""
        self._window += more
        return self._window <= frames.LARGEST_WINDOW

    def widen(self, stream: Stream, more: int) -> bool:
        """The server takes more of a call; whether that can be."""
        stream.window += more
        if stream.window > 0:
            self._sending.setdefault(stream)
        return stream.window <= frames.LARGEST_WINDOW
