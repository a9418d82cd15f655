"""How calls end, or wait, as a server resets, leaves or limits them: transcripts of frames."""

from __future__ import annotations

import pytest

from mesh.errors import Processed
from mesh.transport import frames
from mesh.transport.frames import ErrorCode
from mesh.transport.message import pack
from mesh.transport.sending import MOST_WAITING
from mesh.transport.stream import Stream
from tests.transport.peer import Rig
from tests.transport.saying import (
    BLOCK,
    RESPONSE,
    answer,
    goaway,
    headers,
    ping,
    rst_stream,
    settings,
    window_update,
)

# -- resets


@pytest.mark.parametrize("code", [*ErrorCode, 0xFF, 2**32 - 1])
def test_a_reset_ends_its_call_by_its_code(code: int) -> None:
    rig = Rig()
    call, other = rig.call(b"1"), rig.call(b"2")
    rig.say(rst_stream(1, code), answer(3, b"well"))

    # "HTTP2 error codes [...] to gRPC status codes" - gRPC over HTTP2
    expected = {7: "UNAVAILABLE", 8: "CANCELLED", 11: "RESOURCE_EXHAUSTED", 12: "PERMISSION_DENIED"}
    assert call.status.name == expected.get(code, "INTERNAL")
    assert call.reply is None
    # "REFUSED_STREAM [...] prior to any processing" - RFC 9113, 8.7
    assert call.processed is (Processed.REFUSED if code == 7 else Processed.UNKNOWN)
    assert other.reply == b"well"
    assert "RST_STREAM 1" not in " ".join(rig.seen)


def test_a_call_is_cancelled_by_one_reset_and_is_not_told() -> None:
    rig = Rig()
    call = rig.call(b"hi")
    rig.connection.cancel(call)
    rig.connection.cancel(call)
    rig.flush()
    rig.say(answer(1, b"late"))

    assert rig.seen == ["HEADERS 1", "DATA 1 7 END_STREAM", "RST_STREAM 1 CANCEL"]
    assert rig.ends == []
    assert call.status is None
    assert rig.connection.idle
    assert rig.error is None


def test_cancelling_a_call_that_has_ended_says_nothing() -> None:
    rig = Rig()
    call = rig.call()
    rig.say(answer(1, b"x"))
    rig.seen.clear()
    rig.connection.cancel(call)
    rig.flush()

    assert rig.seen == []


def test_a_call_that_answers_before_it_is_all_sent_ends_and_is_reset_without_error() -> None:
    rig = Rig()
    call = rig.call(bytes(100_000))
    rig.say(headers(1, *RESPONSE, ("grpc-status", "8"), end=True))

    assert call.status.name == "RESOURCE_EXHAUSTED"
    assert rig.seen[-1] == "RST_STREAM 1 NO_ERROR"
    rig.say(window_update(1, 100_000), window_update(0, 100_000))
    assert rig.seen == []


# -- GOAWAY


def test_goaway_ends_what_it_left_unseen_and_lets_the_rest_end() -> None:
    rig = Rig()
    calls = [rig.call() for _ in range(3)]
    rig.say(goaway(3, ErrorCode.NO_ERROR, b"max_age"))

    assert rig.heard == ["going NO_ERROR max_age"]
    # "streams [...] with higher identifiers [...] might be safely retried" - RFC 9113, 6.8
    assert [(c.status and c.status.name, c.processed) for c in calls] == [
        (None, Processed.UNKNOWN),
        (None, Processed.UNKNOWN),
        ("UNAVAILABLE", Processed.REFUSED),
    ]
    assert not rig.connection.open
    assert not rig.connection.idle
    refused = rig.call()
    assert (refused.status.name, refused.processed) == ("UNAVAILABLE", Processed.NO)
    rig.say(answer(3, b"3"), answer(1, b"1"))
    assert [end.reply for end in rig.ends[2:]] == [b"3", b"1"]
    assert rig.connection.idle


def test_a_graceful_goaway_loses_no_call() -> None:
    """2^31-1 first, a PING to learn that it was heard, then the real one (RFC 9113, 6.8)."""
    rig = Rig()
    seen = [rig.call(), rig.call()]
    rig.say(goaway(frames.LAST_STREAM), ping())
    assert rig.seen[-1] == "PING ACK"
    rig.say(goaway(3), answer(1, b"1"), answer(3, b"3"))

    assert [call.reply for call in seen] == [b"1", b"3"]
    assert rig.error is None


def test_goaway_ends_calls_that_waited_as_never_sent() -> None:
    rig = Rig(greeting=settings(MAX_CONCURRENT_STREAMS=1))
    rig.call()
    waiting = [rig.call() for _ in range(3)]
    rig.say(goaway(frames.LAST_STREAM))

    assert [call.processed for call in waiting] == [Processed.NO] * 3
    rig.say(answer(1, b"1"))
    assert [end.status.name for end in rig.ends] == [*["UNAVAILABLE"] * 3, "OK"]
    assert list(rig.peer.calls) == [1]


def test_a_second_goaway_may_lower_what_the_first_said() -> None:
    rig = Rig()
    calls = [rig.call() for _ in range(3)]
    rig.say(goaway(5))
    assert rig.ends == []
    rig.say(goaway(1), goaway(0), goaway(0))

    assert [call.processed for call in calls] == [Processed.REFUSED] * 3
    assert len(rig.ends) == 3
    assert rig.connection.idle


def test_what_a_lost_connection_carried_is_unknown_and_what_waited_is_not() -> None:
    rig = Rig(greeting=settings(MAX_CONCURRENT_STREAMS=2))
    calls = [rig.call() for _ in range(4)]
    rig.connection.lost("the server hung up")
    rig.connection.lost("again")

    assert [call.processed for call in calls] == [Processed.UNKNOWN] * 2 + [Processed.NO] * 2
    assert rig.told() == ["UNAVAILABLE: the server hung up"] * 4
    assert rig.connection.idle


# -- streams at once


def test_calls_wait_in_order_for_the_servers_limit_of_streams() -> None:
    rig = Rig(greeting=settings(MAX_CONCURRENT_STREAMS=2))
    for number in range(5):
        rig.call(b"%d" % number)
    assert rig.peer.open() == 2
    rig.say(answer(1, b""), rst_stream(3, 8))
    assert rig.peer.open() == 2
    rig.say(answer(5, b""), answer(7, b""), answer(9, b""))

    assert [bytes(call.body) for call in rig.peer.calls.values()] == [
        pack(b"%d" % number) for number in range(5)
    ]
    assert len(rig.ends) == 5


@pytest.mark.parametrize("raised", [1, 3, 100])
def test_a_limit_of_streams_that_is_raised_lets_calls_begin(raised: int) -> None:
    rig = Rig(greeting=settings(MAX_CONCURRENT_STREAMS=0))
    for _ in range(4):
        rig.call()
    assert rig.peer.open() == 0
    rig.say(settings(MAX_CONCURRENT_STREAMS=raised))

    assert rig.peer.open() == min(raised, 4)


def test_a_limit_of_streams_that_is_lowered_lets_those_end_that_are_there() -> None:
    rig = Rig()
    for _ in range(4):
        rig.call()
    rig.say(settings(MAX_CONCURRENT_STREAMS=1))
    rig.call()
    rig.say(answer(1, b""), answer(3, b""), answer(5, b""))
    assert list(rig.peer.calls) == [1, 3, 5, 7]
    rig.say(answer(7, b""))

    assert list(rig.peer.calls) == [1, 3, 5, 7, 9]


def test_a_call_that_waits_is_cancelled_without_a_word() -> None:
    rig = Rig(greeting=settings(MAX_CONCURRENT_STREAMS=1))
    rig.call()
    waiting, after = rig.call(), rig.call(b"after")
    rig.connection.cancel(waiting)
    rig.seen.clear()
    rig.say(answer(1, b""))

    assert bytes(rig.peer.calls[3].body) == pack(b"after")
    assert after.status is None
    assert waiting.status is None
    assert not any("RST_STREAM" in line for line in rig.seen)


def test_no_more_calls_wait_than_may() -> None:
    rig = Rig(greeting=settings(MAX_CONCURRENT_STREAMS=0))
    connection, ends = rig.connection, rig.ends
    for _ in range(MOST_WAITING):
        rig.call()
    assert ends == []
    refused = rig.call()

    assert (refused.status.name, refused.processed) == ("UNAVAILABLE", Processed.NO)
    connection.lost("enough")
    assert len(ends) == MOST_WAITING + 1


def test_a_connection_whose_identifiers_are_used_up_is_left_for_another() -> None:
    rig = Rig()
    first = rig.call()
    rig.connection.sending.next = frames.LAST_STREAM - 4
    for _ in range(3):
        rig.call()

    assert list(rig.peer.calls) == [1, frames.LAST_STREAM - 4, frames.LAST_STREAM - 2]
    assert rig.heard == ["going NO_ERROR"]
    assert [end.processed for end in rig.ends] == [Processed.NO]
    rig.say(answer(1, b"1"), answer(frames.LAST_STREAM - 2, b"last"))
    assert first.reply == b"1"
    assert rig.ends[-1].reply == b"last"


# -- who breaks off


def test_an_end_may_call_back_into_the_connection() -> None:
    """What is told an end cancels its neighbours and asks again: nobody is told twice."""
    rig = Rig()
    ends: list[int] = []
    connection = rig.connection
    streams = []

    def ended(number: int):
        def told(stream: object) -> None:
            ends.append(number)
            for other in streams:
                if other is not stream:
                    connection.cancel(other)
            rig.call(b"again")

        return told

    for number in range(4):
        stream = Stream(ended(number))
        streams.append(stream)
        connection.request(stream, BLOCK, pack(b""))
    rig.flush()
    rig.say(goaway(0))

    assert ends == [0]
    assert rig.connection.idle


def test_nothing_is_kept_of_a_call_that_has_ended() -> None:
    rig = Rig(greeting=settings(MAX_CONCURRENT_STREAMS=2))
    for _ in range(4):
        rig.call(bytes(200_000))
    rig.connection.cancel(rig.connection.streams[1])
    rig.say(rst_stream(3, 8))
    assert len(rig.connection.streams) == 2
    rig.say(headers(5, *RESPONSE, ("grpc-status", "5"), end=True), rst_stream(7, 2))

    assert rig.connection.streams == {}
    assert rig.connection.idle
