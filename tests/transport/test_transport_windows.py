"""Flow control both ways (RFC 9113, 5.2 and 6.9): the peer of these tests checks every byte."""

from __future__ import annotations

import gc

import pytest

from mesh.transport import frames
from mesh.transport.connection import CONNECTION_WINDOW
from mesh.transport.frames import ErrorCode
from mesh.transport.message import pack
from mesh.transport.stream import STREAM_WINDOW
from tests.transport.peer import Rig
from tests.transport.saying import (
    answer,
    begin,
    data,
    rst_stream,
    settings,
    trailers,
    window_update,
)

FIRST = frames.FIRST_WINDOW


def sent(rig: Rig, number: int) -> int:
    return len(rig.peer.calls[number].body)


# -- what we send


def test_a_request_larger_than_the_windows_goes_as_they_open() -> None:
    rig = Rig()
    message = bytes(range(256)) * 1_000
    rig.call(message)
    assert sent(rig, 1) == FIRST
    rig.say(window_update(1, 100_000))
    assert sent(rig, 1) == FIRST, "the connection's window is shut"
    rig.say(window_update(0, 50_000))
    assert sent(rig, 1) == FIRST + 50_000
    rig.say(window_update(0, 1_000_000))
    assert sent(rig, 1) == FIRST + 100_000, "the stream's window is shut"
    rig.say(window_update(1, 1_000_000))

    assert bytes(rig.peer.calls[1].body) == pack(message)
    assert rig.peer.calls[1].whole


def test_streams_share_what_the_connection_lets_through() -> None:
    rig = Rig(greeting=settings(INITIAL_WINDOW_SIZE=1 << 20))
    for _ in range(4):
        rig.call(bytes(500_000))
    # The first had the window to itself; what comes then is shared a frame each in turn.
    before = [sent(rig, number) for number in (1, 3, 5, 7)]
    for _ in range(16):
        rig.say(window_update(0, frames.FIRST_FRAME_SIZE))
    after = [sent(rig, number) for number in (1, 3, 5, 7)]

    assert before == [FIRST, 0, 0, 0]
    assert [b - a for a, b in zip(before, after, strict=True)] == [4 * frames.FIRST_FRAME_SIZE] * 4


def test_a_small_call_is_not_held_up_by_the_windows_of_others() -> None:
    rig = Rig()
    rig.say(window_update(0, 1 << 20))
    rig.call(bytes(500_000))
    assert sent(rig, 1) == FIRST
    small = rig.call(b"small")

    assert rig.peer.calls[3].whole
    rig.say(answer(3, b"well"))
    assert small.reply == b"well"


def test_a_window_that_settings_make_negative_is_waited_out() -> None:
    """ "A change [...] can cause the [...] window to become negative" - RFC 9113, 6.9.2"""
    rig = Rig()
    rig.say(window_update(0, 1 << 20))
    rig.call(bytes(200_000))
    assert rig.peer.calls[1].window == 0
    rig.say(settings(INITIAL_WINDOW_SIZE=10_000))
    assert rig.peer.calls[1].window == 10_000 - FIRST
    rig.say(window_update(1, FIRST - 10_000))
    assert sent(rig, 1) == FIRST, "it is zero now"
    rig.say(window_update(1, 5))
    assert sent(rig, 1) == FIRST + 5
    rig.say(settings(INITIAL_WINDOW_SIZE=20_000))
    assert sent(rig, 1) == FIRST + 5 + 10_000
    rig.say(settings(INITIAL_WINDOW_SIZE=1 << 20))

    assert rig.peer.calls[1].whole


@pytest.mark.parametrize("size", [0, 1, 4, 5, 6])
def test_a_first_window_of_next_to_nothing_lets_next_to_nothing_through(size: int) -> None:
    rig = Rig(greeting=settings(INITIAL_WINDOW_SIZE=size))
    rig.call(b"")
    assert sent(rig, 1) == min(size, 5)
    rig.say(settings(INITIAL_WINDOW_SIZE=5))

    assert rig.peer.calls[1].whole


@pytest.mark.parametrize("largest", [16_384, 16_385, 100_000, 2**24 - 1])
def test_frames_are_as_large_as_the_server_lets_them_be(largest: int) -> None:
    rig = Rig(greeting=settings(INITIAL_WINDOW_SIZE=2**31 - 1, MAX_FRAME_SIZE=largest))
    rig.say(window_update(0, 2**31 - 1 - FIRST))
    rig.seen.clear()
    rig.call(bytes(300_000))

    size = int(rig.seen[1].split()[2])
    assert size == min(largest, 300_005)
    assert rig.peer.calls[1].whole


def test_a_window_of_the_connection_beyond_its_limit_ends_the_connection() -> None:
    rig = Rig()
    rig.say(window_update(0, 2**31 - 1))

    assert rig.error is not None
    assert rig.error.code is ErrorCode.FLOW_CONTROL_ERROR


def test_an_update_of_the_connection_by_0_ends_it() -> None:
    rig = Rig()
    rig.say(window_update(0, 0))

    assert rig.error is not None
    assert rig.error.code is ErrorCode.PROTOCOL_ERROR


def test_a_window_of_a_stream_beyond_its_limit_resets_the_stream() -> None:
    rig = Rig()
    rig.call(bytes(200_000))
    other = rig.call(b"hi")
    rig.say(window_update(1, 2**31 - 1), window_update(1, 1))

    assert rig.told() == ["INTERNAL: a window beyond 2^31-1"]
    assert rig.peer.calls[1].reset is ErrorCode.FLOW_CONTROL_ERROR
    rig.say(window_update(0, 1 << 20), answer(3, b"well"))
    assert other.reply == b"well"


def test_settings_that_take_a_window_beyond_its_limit_end_the_connection() -> None:
    """ "MUST treat [...] as a connection error [...] of type FLOW_CONTROL_ERROR" - 6.9.2"""
    rig = Rig()
    rig.call(bytes(200_000))
    rig.call(bytes(200_000))
    rig.say(window_update(1, 2**31 - 1), settings(INITIAL_WINDOW_SIZE=FIRST + 1))

    assert rig.error is not None
    assert rig.error.code is ErrorCode.FLOW_CONTROL_ERROR
    assert len(rig.ends) == 2


def test_windows_of_calls_that_are_over_are_of_no_account() -> None:
    rig = Rig()
    rig.connection.cancel(rig.call(bytes(200_000)))
    rig.flush()
    rig.say(window_update(1, 2**31 - 1), window_update(1, 2**31 - 1), window_update(1, 0))
    rig.say(window_update(0, 1 << 20))

    assert rig.error is None
    assert sent(rig, 1) == FIRST


def test_what_a_cancelled_call_used_of_the_connections_window_is_used() -> None:
    """The server gives it back, when it has read it: RST_STREAM gives nothing back."""
    rig = Rig()
    rig.connection.cancel(rig.call(bytes(200_000)))
    rig.call(b"waits")
    assert sent(rig, 3) == 0
    rig.say(window_update(0, 10))

    assert rig.peer.calls[3].whole


def test_nothing_is_sent_while_the_socket_takes_no_more() -> None:
    rig = Rig()
    rig.connection.pause()
    rig.call(b"hi")
    rig.say(window_update(0, 1 << 20))
    assert rig.peer.calls == {}
    rig.connection.resume()
    rig.flush()

    assert rig.peer.calls[1].whole


def test_calls_that_were_cancelled_with_their_window_shut_are_let_go_of() -> None:
    """A server that never opens the connection's window: what is cancelled is kept nowhere."""
    rig = Rig()
    rig.call(bytes(FIRST - 5))
    for _ in range(100):
        rig.connection.cancel(rig.call(b"more"))
    gc.collect()
    kept = [each for each in gc.get_objects() if type(each).__name__ == "Stream"]

    assert len(rig.connection.streams) == 1
    assert len([each for each in kept if each.on_end == rig.ends.append]) == 1


# -- what we let be sent


def test_what_is_read_is_given_back_before_the_window_is_empty() -> None:
    rig = Rig(largest_reply=64 << 20)
    call = rig.call()
    payload, least = pack(bytes(40 << 20)), CONNECTION_WINDOW
    rig.say(begin(1))
    for at in range(0, len(payload), 16_384):
        part = payload[at : at + 16_384]
        assert rig.peer.calls[1].credit >= len(part)
        least = min(least, rig.peer.credit)
        rig.say(data(1, part))
    rig.say(trailers(1))

    assert call.reply == payload[5:]
    assert CONNECTION_WINDOW // 4 < least < CONNECTION_WINDOW * 3 // 4, "and not after each frame"


def test_many_replies_at_once_are_given_back_too() -> None:
    rig = Rig(largest_reply=64 << 20)
    calls = [rig.call() for _ in range(20)]
    payload = pack(bytes(3 << 20))
    numbers = list(rig.peer.calls)
    for number in numbers:
        rig.say(begin(number))
    for at in range(0, len(payload), 16_384):
        for number in numbers:
            part = payload[at : at + 16_384]
            assert rig.peer.credit >= len(part)
            assert rig.peer.calls[number].credit >= len(part)
            rig.say(data(number, part))
    for number in numbers:
        rig.say(trailers(number))

    assert {call.reply for call in calls} == {payload[5:]}


def test_padding_counts_against_the_windows() -> None:
    rig = Rig()
    rig.call()
    rig.say(begin(1))
    empty = frames.frame(frames.DATA, frames.PADDED, 1, b"\xff" + bytes(255))
    for _ in range(STREAM_WINDOW // 256 // 2 + 1):
        rig.say(empty)

    assert any(line.startswith("WINDOW_UPDATE 1 ") for line in rig.seen)
    assert rig.peer.calls[1].credit > STREAM_WINDOW // 2


def test_data_of_calls_that_are_over_is_given_back_to_the_connection() -> None:
    rig = Rig()
    rig.connection.cancel(rig.call())
    rig.flush()
    for _ in range(CONNECTION_WINDOW // 16_384 * 3):
        rig.say(data(1, bytes(16_384)))
        assert rig.peer.credit > 0

    assert rig.error is None


def test_a_reply_that_is_too_large_is_given_back_as_well() -> None:
    rig = Rig(largest_reply=1_000)
    for number in range(1, 2 * CONNECTION_WINDOW // 16_384 * 2, 2):
        rig.call()
        rig.say(begin(number), data(number, pack(bytes(16_379))), rst_stream(number, 0))
        assert rig.peer.credit > 0

    assert {end.status.name for end in rig.ends} == {"RESOURCE_EXHAUSTED"}
