"""What a server may send, and where (RFC 9113): its SETTINGS first, no frame out of its place."""

from __future__ import annotations

import pytest

from mesh.errors import Processed
from mesh.transport import frames
from mesh.transport.connection import CONNECTION_WINDOW
from mesh.transport.frames import LONG, ErrorCode
from tests.transport.peer import Rig
from tests.transport.saying import (
    BLOCK,
    RESPONSE,
    begin,
    block,
    data,
    goaway,
    ping,
    rst_stream,
    settings,
    trailers,
    window_update,
)

# -- the beginning


def test_the_first_bytes_are_the_preface_settings_and_a_wider_window() -> None:
    rig = Rig(greeting=None)
    rig.flush()

    assert rig.seen == ["SETTINGS", f"WINDOW_UPDATE 0 {CONNECTION_WINDOW - 65_535}"]
    assert not rig.connection.open
    assert rig.connection.idle


def test_calls_begin_with_the_servers_settings_which_are_acknowledged() -> None:
    rig = Rig(greeting=None)
    early = rig.call()
    rig.seen.clear()

    assert (early.status.name, early.processed) == ("UNAVAILABLE", Processed.NO)
    rig.say(settings(MAX_CONCURRENT_STREAMS=3))
    assert rig.heard == ["greeted"]
    assert rig.connection.open
    rig.call(b"hi")
    assert rig.seen[-3:] == ["SETTINGS ACK", "HEADERS 1", "DATA 1 7 END_STREAM"]


def test_an_acknowledgement_is_no_greeting() -> None:
    rig = Rig(greeting=None)
    rig.say(frames.frame(frames.SETTINGS, frames.ACK, 0))
    # "SETTINGS frame [...] MUST be the first frame the server sends" - RFC 9113, 3.4
    assert not rig.connection.open


@pytest.mark.parametrize(
    "said",
    [
        ping(),
        begin(1),
        data(1, b""),
        window_update(0, 1),
        goaway(0),
        rst_stream(1, 0),
        frames.frame(0xFA, 0, 0, b"unknown"),
        frames.frame(frames.CONTINUATION, 4, 1),
    ],
)
def test_nothing_comes_before_settings(said: bytes) -> None:
    rig = Rig(greeting=None)
    rig.say(said)

    assert rig.error is not None
    assert rig.error.code is ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize("pieces", [1, 3, 9, 200])
def test_a_server_of_http_1_is_told_apart(pieces: int) -> None:
    rig = Rig(greeting=None)
    said = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"
    rig.say(said, size=pieces)

    assert "the server speaks HTTP/1" in str(rig.error)


# -- settings


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        (frames.ENABLE_PUSH, 1, ErrorCode.PROTOCOL_ERROR),
        (frames.ENABLE_PUSH, 2, ErrorCode.PROTOCOL_ERROR),
        (frames.INITIAL_WINDOW_SIZE, 2**31, ErrorCode.FLOW_CONTROL_ERROR),
        (frames.INITIAL_WINDOW_SIZE, 2**32 - 1, ErrorCode.FLOW_CONTROL_ERROR),
        (frames.MAX_FRAME_SIZE, 16_383, ErrorCode.PROTOCOL_ERROR),
        (frames.MAX_FRAME_SIZE, 2**24, ErrorCode.PROTOCOL_ERROR),
        (frames.MAX_FRAME_SIZE, 0, ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_a_setting_that_no_server_may_send_ends_the_connection(
    name: int, value: int, code: ErrorCode
) -> None:
    rig = Rig()
    call = rig.call()
    rig.seen.clear()
    rig.say(frames.settings({name: value}))

    assert rig.error is not None
    assert rig.error.code is code
    assert rig.seen[-1] == f"GOAWAY 0 {code.name}"
    assert rig.told() == [f"UNAVAILABLE: {rig.error}"]
    assert call.processed is Processed.UNKNOWN


def test_the_last_of_two_values_counts_and_unknown_settings_are_ignored() -> None:
    pairs = [(3, 5), (0x99, 7), (3, 1), (frames.ENABLE_PUSH, 0), (6, 2**32 - 1)]
    rig = Rig()
    rig.say(frames.frame(frames.SETTINGS, 0, 0, b"".join(frames.SETTING.pack(*p) for p in pairs)))
    rig.call()
    rig.call()

    # One acknowledgement a frame, whatever it holds - RFC 9113, 6.5.3
    assert rig.seen == ["SETTINGS ACK", "HEADERS 1", "DATA 1 5 END_STREAM"]


@pytest.mark.parametrize(
    "said",
    [
        frames.frame(frames.SETTINGS, 0, 0, bytes(5)),
        frames.frame(frames.SETTINGS, frames.ACK, 0, bytes(6)),
        frames.frame(frames.PING, 0, 0, bytes(7)),
        frames.frame(frames.PING, 0, 0, bytes(9)),
        frames.frame(frames.RST_STREAM, 0, 1, bytes(5)),
        frames.frame(frames.WINDOW_UPDATE, 0, 0, bytes(3)),
        frames.frame(frames.WINDOW_UPDATE, 0, 1, bytes(5)),
        frames.frame(frames.GOAWAY, 0, 0, bytes(7)),
        frames.frame(frames.HEADERS, frames.END_HEADERS | frames.PRIORITIZED, 1, bytes(4)),
        frames.frame(frames.DATA, 0, 1, bytes(16_385)),
        frames.frame(0xFA, 0, 0, bytes(16_385)),
    ],
)
def test_a_frame_of_the_wrong_size_ends_the_connection(said: bytes) -> None:
    rig = Rig()
    rig.call()
    rig.say(said)

    assert rig.error is not None
    assert rig.error.code is ErrorCode.FRAME_SIZE_ERROR
    assert len(rig.ends) == 1


@pytest.mark.parametrize(
    "said",
    [
        frames.frame(frames.SETTINGS, 0, 1),
        frames.frame(frames.PING, 0, 1, bytes(8)),
        frames.frame(frames.GOAWAY, 0, 1, bytes(8)),
        frames.frame(frames.HEADERS, 4, 0, block(*RESPONSE)),
        frames.frame(frames.RST_STREAM, 0, 0, bytes(4)),
        data(0, b"x"),
        frames.frame(frames.DATA, frames.PADDED, 0, b"\0x"),
    ],
)
def test_a_frame_on_a_stream_where_it_cannot_be_ends_the_connection(said: bytes) -> None:
    rig = Rig()
    rig.call()
    rig.say(said)

    assert rig.error is not None
    assert rig.error.code is ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("said", "fine"),
    [
        (begin(1), True),
        (data(1, b"late"), True),
        (trailers(1), True),
        (rst_stream(1, 0), True),
        (window_update(1, 1), True),
        (begin(3), False),
        (data(3, b""), False),
        (rst_stream(3, 0), False),
        (window_update(3, 1), False),
        (begin(2), False),
        (data(2, b""), False),
        (rst_stream(2, 0), False),
        (window_update(2, 1), False),
        (frames.frame(frames.PRIORITY, 0, 3, bytes(5)), True),
    ],
)
def test_a_stream_that_is_over_may_hear_late_frames_and_one_that_never_was_may_not(
    said: bytes, fine: bool
) -> None:
    rig = Rig()
    rig.connection.cancel(rig.call())
    rig.say(said)

    assert (rig.error is None) is fine
    if not fine:
        assert rig.error is not None
        assert rig.error.code is ErrorCode.PROTOCOL_ERROR
    assert rig.ends == []


def test_a_push_is_refused_since_it_was_declined() -> None:
    rig = Rig()
    rig.call()
    rig.say(frames.frame(frames.PUSH_PROMISE, frames.END_HEADERS, 1, LONG.pack(2) + BLOCK))

    assert rig.error is not None
    assert rig.error.code is ErrorCode.PROTOCOL_ERROR
