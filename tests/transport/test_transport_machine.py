"""
Whatever the order of things: each call is told its end once, nothing is overstepped, nothing stays.

The machine plays both owner and server; the peer checks each byte against what the server allowed,
and at every rest that what may be sent has been sent.
"""

from __future__ import annotations

from weakref import WeakSet

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mesh.errors import Processed
from mesh.transport import frames
from mesh.transport.frames import ErrorCode
from mesh.transport.message import pack
from mesh.transport.stream import Stream
from tests.transport import saying
from tests.transport.peer import Rig
from tests.transport.saying import (
    BLOCK,
    begin,
    data,
    goaway,
    ping,
    rst_stream,
    trailers,
    window_update,
)


class Call(Stream):
    """A stream of which it shows whether somebody still holds it."""

    __slots__ = ("__weakref__",)


class Machine(RuleBasedStateMachine):
    """Calls are made and dropped, the server does as it likes: within RFC 9113."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig()
        self.connection = self.rig.connection
        self.made: dict[Stream, bytes] = {}
        self.alive: WeakSet[Stream] = WeakSet()
        self.told: dict[Stream, int] = {}
        self.cancelled: set[Stream] = set()
        self.paused = self.gone = False
        # Of calls that the server is answering: what is left of it.
        self.answering: dict[int, list[bytes]] = {}
        self.replies: dict[int, bytes] = {}

    @initialize(
        most=st.sampled_from([None, 0, 1, 3]), window=st.sampled_from([None, 0, 10, 70_000])
    )
    def greet(self, most: int | None, window: int | None) -> None:
        values = {}
        if most is not None:
            values["MAX_CONCURRENT_STREAMS"] = most
        if window is not None:
            values["INITIAL_WINDOW_SIZE"] = window
        self.rig.say(saying.settings(**values))

    # -- the owner

    @rule(
        size=st.sampled_from([0, 1, 100, 16_379, 16_380, 65_530, 65_531, 200_000]),
        much=st.booleans(),
    )
    def request(self, size: int, much: bool) -> None:
        message = bytes((len(self.made) % 251,)) * size
        stream = Call(self._ended)
        self.alive.add(stream)
        self.made[stream] = pack(message)
        block = BLOCK + (saying.block(("a", "x" * 20_000)) if much else b"")
        self.connection.request(stream, block, self.made[stream])
        self.rig.flush()

    @rule(count=st.integers(1, 8), size=st.sampled_from([0, 100, 16_379]))
    def requests(self, count: int, size: int) -> None:
        for _ in range(count):
            self.request(size, much=False)

    def _ended(self, stream: Stream) -> None:
        self.told[stream] = self.told.get(stream, 0) + 1

    def _live(self) -> list[Stream]:
        return [s for s in self.made if s not in self.told and s not in self.cancelled]

    @precondition(lambda self: self._live())
    @rule(which=st.integers(0, 1 << 20))
    def cancel(self, which: int) -> None:
        live = self._live()
        stream = live[which % len(live)]
        self.cancelled.add(stream)
        self.connection.cancel(stream)
        self.rig.flush()

    @rule()
    def cancel_again(self) -> None:
        for stream in [*self.cancelled, *self.told]:
            self.connection.cancel(stream)
        assert self.connection.out() == b""

    @rule()
    def pause(self) -> None:
        self.paused = True
        self.connection.pause()

    @rule()
    def resume(self) -> None:
        self.paused = False
        self.connection.resume()
        self.rig.flush()

    # -- the server

    def _open(self) -> list[int]:
        return [number for number, call in self.rig.peer.calls.items() if not call.answered]

    @precondition(lambda self: self._open())
    @rule(which=st.integers(0, 1 << 20), reply=st.binary(max_size=60_000), ok=st.booleans())
    def answer(self, which: int, reply: bytes, ok: bool) -> None:
        """Begin to answer a call, or go on with it."""
        numbers = self._open()
        number = numbers[which % len(numbers)]
        if number not in self.answering:
            whole = pack(reply)
            parts = [whole[at : at + 16_384] for at in range(0, len(whole), 16_384)]
            self.replies[number] = reply
            self.answering[number] = [
                *(begin(number), *(data(number, part) for part in parts)),
                trailers(number, "0" if ok else "9"),
            ]
        self.rig.say(self.answering[number].pop(0))

    @precondition(lambda self: self._open())
    @rule(which=st.integers(0, 1 << 20), code=st.sampled_from(list(ErrorCode)))
    def reset(self, which: int, code: ErrorCode) -> None:
        numbers = self._open()
        self.rig.say(rst_stream(numbers[which % len(numbers)], code))

    @rule(more=st.sampled_from([1, 5, 16_384, 100_000]))
    def widen_connection(self, more: int) -> None:
        if self.rig.peer.window + more <= frames.LARGEST_WINDOW:
            self.rig.say(window_update(0, more))

    @precondition(lambda self: self.rig.peer.calls)
    @rule(which=st.integers(0, 1 << 20), more=st.sampled_from([1, 5, 16_384, 100_000]))
    def widen(self, which: int, more: int) -> None:
        numbers = list(self.rig.peer.calls)
        number = numbers[which % len(numbers)]
        if self.rig.peer.calls[number].window + more <= frames.LARGEST_WINDOW:
            self.rig.say(window_update(number, more))

    @rule(size=st.sampled_from([0, 1, 10_000, 65_535, 100_000, 1 << 20]))
    def first_window(self, size: int) -> None:
        self.rig.say(saying.settings(INITIAL_WINDOW_SIZE=size))

    @rule(most=st.sampled_from([0, 1, 2, 5, 100]))
    def most_streams(self, most: int) -> None:
        self.rig.say(saying.settings(MAX_CONCURRENT_STREAMS=most))

    @rule(size=st.sampled_from([16_384, 16_385, 50_000]))
    def largest_frame(self, size: int) -> None:
        self.rig.say(saying.settings(MAX_FRAME_SIZE=size))

    @rule()
    def ask(self) -> None:
        self.rig.say(ping())

    @precondition(lambda self: len(self.made) > 4)
    @rule(last=st.sampled_from([0, 1, 3, frames.LAST_STREAM]))
    def leave(self, last: int) -> None:
        self.gone = True
        self.rig.say(goaway(last))
        for number in list(self.answering):
            if number > last:
                self.rig.peer.calls[number].answered = True

    # -- what holds

    @invariant()
    def each_call_is_told_once(self) -> None:
        assert self.rig.error is None
        assert set(self.told.values()) <= {1}
        assert not self.cancelled & self.told.keys()
        live = self._live()
        on_the_wire = set(self.connection.streams.values())
        assert on_the_wire <= set(live)
        assert self.connection.idle is (not live)
        assert all(stream.status is None for stream in live)
        for stream in self.told:
            number = stream.number
            if stream.reply is not None and stream.status == 0:
                assert stream.reply == self.replies[number]
            if stream.processed is Processed.NO:
                assert number == 0

    @invariant()
    def what_arrived_is_what_was_sent(self) -> None:
        for stream, whole in self.made.items():
            if stream.number:
                call = self.rig.peer.calls[stream.number]
                assert whole.startswith(call.body)
                assert not call.whole or call.answered or len(call.body) == len(whole)

    @invariant()
    def what_may_be_sent_has_been_sent(self) -> None:
        peer = self.rig.peer
        if self.paused:
            return
        for number in self.connection.streams:
            call = peer.calls[number]
            assert call.whole or call.window <= 0 or peer.window <= 0, f"stream {number} is stuck"
        waiting = len(self._live()) - len(self.connection.streams)
        assert not waiting or len(self.connection.streams) >= peer.most_streams

    def teardown(self) -> None:
        """Everything is let through and answered: nobody is left waiting, nothing is kept."""
        self.resume()
        self.rig.say(saying.settings(MAX_CONCURRENT_STREAMS=1_000, INITIAL_WINDOW_SIZE=1 << 24))
        self.rig.say(window_update(0, 1 << 30))
        while self.connection.streams:
            for number in list(self.connection.streams):
                assert self.rig.peer.calls[number].whole
                self.rig.say(rst_stream(number, 8))
        assert not self._live()
        assert self.connection.idle
        self.connection.lost("over")
        assert len(self.told) + len(self.cancelled) == len(self.made)
        # And the connection holds none of them.
        self.made, self.told, self.cancelled = {}, {}, set()
        assert not self.alive


def test_no_order_of_things_loses_a_call_or_oversteps_what_the_server_allows() -> None:
    run_state_machine_as_test(Machine, settings=settings(max_examples=100, stateful_step_count=40))
