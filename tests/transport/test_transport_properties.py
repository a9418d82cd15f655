"""
Whatever the order of things: each call is told its end once, nothing is overstepped, nothing stays.

The machine plays both owner and server; the peer checks each byte against what the server allowed,
and at every rest that what may be sent has been sent.
"""

from __future__ import annotations

import gc
from random import Random
from typing import Any

from hypothesis import given, settings
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
from mesh.transport.fields import timeout
from mesh.transport.frames import ErrorCode
from mesh.transport.message import pack
from mesh.transport.stream import Stream
from tests.transport import saying
from tests.transport.answers import ANSWERS
from tests.transport.peer import Rig, split
from tests.transport.saying import (
    BLOCK,
    begin,
    data,
    goaway,
    headers,
    ping,
    rst_stream,
    trailers,
    window_update,
)

NUMBERS = st.integers(0, 9)
FRAMES = st.one_of(
    st.builds(lambda n: begin(2 * n + 1), NUMBERS),
    st.builds(lambda n, b: data(2 * n + 1, pack(b)), NUMBERS, st.binary(max_size=40)),
    st.builds(lambda n, b, end: data(2 * n + 1, b, end=end), NUMBERS, st.binary(), st.booleans()),
    st.builds(lambda n, s: trailers(2 * n + 1, str(s)), NUMBERS, st.integers(0, 17)),
    st.builds(
        lambda n: headers(2 * n + 1, *saying.RESPONSE, ("grpc-status", "5"), end=True), NUMBERS
    ),
    st.builds(
        lambda n, name: ANSWERS[name].says(2 * n + 1),
        NUMBERS,
        st.sampled_from([name for name in ANSWERS if name != "as large as may be"]),
    ),
    st.builds(lambda n, c: rst_stream(2 * n + 1, c), NUMBERS, st.integers(0, 14)),
    st.builds(lambda n, more: window_update(n, more), NUMBERS, st.integers(0, 2**31 - 1)),
    st.builds(lambda: ping()),
    st.builds(lambda n: goaway(2 * n + 1), NUMBERS),
    st.builds(lambda n: saying.settings(MAX_CONCURRENT_STREAMS=n), NUMBERS),
    st.builds(
        lambda kind, flags, n, b: frames.frame(kind, flags, n, b),
        *(st.integers(0, 10), st.integers(0, 255), NUMBERS, st.binary(max_size=12)),
    ),
    st.binary(max_size=12),
)


def played(said: bytes, cuts: list[int]) -> tuple[Any, ...]:
    """What ten calls come to when a server says this, cut there."""
    rig = Rig()
    calls = [rig.call(bytes(20_000)) for _ in range(10)]
    rig.connection.ping()
    sent = b""
    at = 0
    for cut in [*sorted(cuts), len(said)]:
        try:
            rig.connection.receive(said[at:cut])
        except frames.ProtocolError as error:
            rig.connection.broken(error)
            rig.connection.lost(str(error))
            sent += rig.connection.out()
            break
        sent += rig.connection.out()
        at = cut
    told = [
        (c.status, c.details, c.reply, c.initial, c.trailing, c.processed, c.seen) for c in calls
    ]
    order = [calls.index(end) for end in rig.ends]
    return told, order, sent, rig.heard


@given(st.lists(FRAMES, max_size=12).map(b"".join), st.data())
@settings(max_examples=400)
def test_the_same_bytes_in_any_pieces_come_to_the_same(said: bytes, drawing: st.DataObject) -> None:
    cuts = drawing.draw(st.lists(st.integers(0, len(said)), max_size=20))

    assert played(said, cuts) == played(said, [])


@given(st.binary(max_size=400), st.data())
@settings(max_examples=300)
def test_garbage_ends_in_an_error_of_the_protocol_and_in_none_else(
    garbage: bytes, drawing: st.DataObject
) -> None:
    cuts = drawing.draw(st.lists(st.integers(0, len(garbage)), max_size=5))

    told, order, *_ = played(garbage, cuts)
    assert all((each[0] is not None) == (n in order) for n, each in enumerate(told))


@given(st.lists(st.sampled_from(list(ANSWERS)), min_size=1, max_size=6), st.randoms())
@settings(max_examples=200)
def test_answers_of_different_calls_do_not_meet(names: list[str], rng: Random) -> None:
    """Interleaved frame by frame, each call ends as it would alone."""
    names = [name for name in names if not ANSWERS[name].breaks and "GOAWAY" not in name]
    rig = Rig()
    calls = [rig.call(b"hi") for _ in names]
    queues = [
        [frames.frame(*each) for each in split(ANSWERS[name].says(2 * n + 1))]
        for n, name in enumerate(names)
    ]
    while any(queues):
        queue = rng.choice([queue for queue in queues if queue])
        rig.say(queue.pop(0))
        # A header block is not interrupted.
        while queue and queue[0][3] == frames.CONTINUATION:
            rig.say(queue.pop(0))

    for call, name in zip(calls, names, strict=True):
        row = ANSWERS[name]
        assert call.status is not None
        assert (call.status.name, call.trailing) == (row.code, row.trailing)
        assert row.code != "OK" or call.reply == row.reply


@given(st.floats(min_value=1e-6, max_value=1e300))
@settings(max_examples=500)
def test_a_timeout_is_written_with_eight_digits_and_never_above_the_wish(seconds: float) -> None:
    field = timeout(seconds).removeprefix(b"\x00\x0cgrpc-timeout")
    size, digits, unit = field[0], field[1:-1], field[-1:]
    # "TimeoutValue -> {positive integer as ASCII string of at most 8 digits}" - gRPC over HTTP2
    assert size == len(digits) + 1
    assert digits.isdigit()
    assert 1 <= int(digits) <= 99_999_999
    written = int(digits) * {b"u": 1e-6, b"m": 1e-3, b"S": 1.0, b"H": 3600.0}[unit]

    assert written <= seconds * (1 + 1e-9)
    assert written >= min(seconds, 99_999_999 * 3600.0) * 0.999 or seconds < 1e-3


class Machine(RuleBasedStateMachine):
    """Calls are made and dropped, the server does as it likes: within RFC 9113."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig()
        self.connection = self.rig.connection
        self.made: dict[Stream, bytes] = {}
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
        stream = Stream(self._ended)
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
        gc.collect()
        mine = [s for s in gc.get_objects() if type(s) is Stream and s.on_end == self._ended]
        assert mine == []


def test_no_order_of_things_loses_a_call_or_oversteps_what_the_server_allows() -> None:
    run_state_machine_as_test(Machine, settings=settings(max_examples=100, stateful_step_count=40))
