"""However bytes are cut and answers mixed, each call ends as it would alone."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.transport import frames
from mesh.transport.fields import timeout
from mesh.transport.message import pack
from tests.transport import saying
from tests.transport.answers import ANSWERS
from tests.transport.peer import Rig, split
from tests.transport.saying import (
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
