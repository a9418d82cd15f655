"""Header blocks in pieces, PING and SETTINGS: what may come without end, and what may not."""

from __future__ import annotations

import pytest

from mesh.transport import frames
from mesh.transport.connection import MOST_UNREAD
from mesh.transport.frames import ErrorCode
from mesh.transport.incoming import MOST_PIECES
from tests.transport.peer import Rig
from tests.transport.saying import (
    BLOCK,
    RESPONSE,
    answer,
    begin,
    block,
    data,
    goaway,
    ping,
    rst_stream,
    settings,
    window_update,
)

# -- header blocks


@pytest.mark.parametrize(
    "between",
    [
        data(1, b""),
        begin(3),
        ping(),
        settings(),
        window_update(0, 1),
        rst_stream(1, 8),
        goaway(0),
        frames.frame(0xFA, 0, 0, b""),
        frames.frame(frames.PRIORITY, 0, 1, bytes(5)),
        frames.frame(frames.CONTINUATION, frames.END_HEADERS, 3, b""),
        frames.frame(frames.CONTINUATION, frames.END_HEADERS, 0, b""),
    ],
)
def test_a_header_block_is_not_interrupted(between: bytes) -> None:
    rig = Rig()
    rig.call()
    rig.call()
    rig.say(frames.frame(frames.HEADERS, 0, 1, block(*RESPONSE)), between)

    assert rig.error is not None
    assert rig.error.code is ErrorCode.PROTOCOL_ERROR


def test_a_continuation_of_nothing_ends_the_connection() -> None:
    rig = Rig()
    rig.call()
    rig.say(begin(1), frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, b""))

    assert rig.error is not None
    assert rig.error.code is ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize("piece", [b"", b"\0\1a\1b"])
def test_continuations_without_end_end_the_connection(piece: bytes) -> None:
    rig = Rig()
    rig.call()
    rig.say(frames.frame(frames.HEADERS, 0, 1, block(*RESPONSE)))
    for _ in range(MOST_PIECES):
        rig.say(frames.frame(frames.CONTINUATION, 0, 1, piece))
        if rig.error is not None:
            break

    assert rig.error is not None
    assert rig.error.code is ErrorCode.ENHANCE_YOUR_CALM


def test_a_block_beyond_what_may_be_ends_its_call_and_no_other() -> None:
    rig = Rig()
    rig.call()
    rig.call()
    whole = block(*RESPONSE, ("a", "x" * 100_000))
    parts = [whole[at : at + 16_384] for at in range(0, len(whole), 16_384)]
    rig.say(frames.frame(frames.HEADERS, 0, 1, parts[0]))
    for part in parts[1:-1]:
        rig.say(frames.frame(frames.CONTINUATION, 0, 1, part))
    rig.say(frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, parts[-1]))
    rig.say(answer(3, b"well"))

    assert [end.status.name for end in rig.ends] == ["RESOURCE_EXHAUSTED", "OK"]
    assert rig.error is None
    assert rig.peer.calls[1].reset is ErrorCode.CANCEL


def test_blocks_of_calls_that_are_over_are_passed_over_whole() -> None:
    rig = Rig()
    rig.connection.cancel(rig.call())
    rig.call()
    whole = block(*RESPONSE)
    rig.say(
        frames.frame(frames.HEADERS, 0, 1, whole[:5]),
        frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, whole[5:]),
        answer(3, b"well"),
    )

    assert rig.error is None
    assert rig.told() == ["OK"]


# -- PING, floods


def test_a_ping_is_answered_with_its_bytes_and_an_answer_is_not() -> None:
    rig = Rig()
    rig.say(ping(b"abcdefgh"), ping(b"12345678"), ping(ack=True))

    assert rig.seen == ["PING ACK", "PING ACK"]


def test_our_own_ping_is_sent_and_its_answer_taken() -> None:
    rig = Rig()
    rig.connection.ping()
    rig.flush()
    rig.say(ping(b"mesh\0\0\0\0", ack=True))

    assert rig.seen == ["PING"]
    assert rig.error is None


@pytest.mark.parametrize("asked", [ping(), settings(), settings(MAX_CONCURRENT_STREAMS=9)])
def test_who_asks_and_does_not_read_the_answers_is_left(asked: bytes) -> None:
    """CVE-2019-9512 and -9515: the answers are held for a peer that leaves them unread."""
    rig = Rig()
    rig.connection.pause()
    for _ in range(MOST_UNREAD):
        rig.say(asked)
    assert rig.error is None
    rig.say(asked)

    assert rig.error is not None
    assert rig.error.code is ErrorCode.ENHANCE_YOUR_CALM


def test_who_reads_the_answers_may_ask_as_often_as_it_likes() -> None:
    rig = Rig()
    for _ in range(3):
        rig.connection.pause()
        rig.say(ping() * MOST_UNREAD)
        rig.connection.resume()
    rig.say(ping() * 2 * MOST_UNREAD)

    assert rig.error is None
    assert rig.seen.count("PING ACK") == 5 * MOST_UNREAD


# -- a block too large for the server


def test_metadata_beyond_the_servers_limit_is_not_sent() -> None:
    rig = Rig(greeting=settings(MAX_HEADER_LIST_SIZE=1_000))
    call = rig.call(block=BLOCK + block(("a", "x" * 1_000)))

    assert call.status.name == "RESOURCE_EXHAUSTED"
    assert "1000" in call.details
    assert rig.peer.calls == {}


@pytest.mark.parametrize("size", [16_000, 16_384, 40_000, 100_000])
def test_a_block_larger_than_a_frame_goes_in_pieces(size: int) -> None:
    rig = Rig()
    call = rig.call(b"hi", block=BLOCK + block(("a", "x" * size)))

    assert ("a", "x" * size) in rig.peer.calls[1].fields
    rig.say(answer(1, b"well"))
    assert call.reply == b"well"
