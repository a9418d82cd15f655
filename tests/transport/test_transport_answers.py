"""How a call ends by what its server answers: the whole table, without a socket."""

from __future__ import annotations

import pytest

from mesh.errors import Processed
from mesh.transport.frames import ErrorCode
from tests.transport.answering import Answer
from tests.transport.answers import ANSWERS
from tests.transport.peer import Rig
from tests.transport.saying import answer


@pytest.mark.parametrize("row", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_ends_its_call_as_the_table_says(row: Answer) -> None:
    rig = Rig()
    call, other = rig.call(b"hi"), rig.call(b"hi")
    rig.say(row.says(1))

    assert call.status is not None
    assert call.status.name == row.code
    assert row.details in call.details
    assert row.ours in call.details
    assert row.code != "OK" or (call.reply, call.details) == (row.reply, "")
    assert (call.initial, call.trailing) == (row.initial, row.trailing)
    assert (rig.error is not None) is row.breaks
    # A frame that is wrong for one call is no other's concern.
    assert rig.ends == ([call, other] if row.breaks else [call])
    if not row.breaks:
        rig.say(answer(3, b"well"))
        assert other.reply == b"well"


@pytest.mark.parametrize("row", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_in_any_pieces_is_the_same_answer(row: Answer) -> None:
    """Byte by byte, where it is short; else by sizes that cut frames anywhere."""
    said = row.says(1)
    sizes = (1, 5, 11) if len(said) < 5_000 else (997, 16_383)
    for size in sizes:
        rig = Rig()
        call = rig.call(b"hi")
        rig.say(said, size=size)

        assert call.status is not None
        assert (call.status.name, call.trailing) == (row.code, row.trailing)
        assert row.code != "OK" or call.reply == row.reply


@pytest.mark.parametrize("row", ANSWERS.values(), ids=ANSWERS)
def test_only_a_refused_stream_is_known_not_to_have_been_seen(row: Answer) -> None:
    rig = Rig()
    call = rig.call(b"hi")
    rig.say(row.says(1))
    refused = ANSWERS["reset: REFUSED_STREAM"]

    assert call.processed is (Processed.REFUSED if row is refused else Processed.UNKNOWN)


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("an error after headers", True),
        ("trailers only", False),
        ("HTTP 503", True),
        ("only 1xx, and the end", False),
        ("reset after headers", True),
        ("reset: CANCEL", False),
    ],
)
def test_headers_are_seen_when_they_are_more_than_trailers(name: str, seen: bool) -> None:
    """ "Committed" is a call whose Response-Headers came, which Trailers-Only has none of - A6."""
    rig = Rig()
    call = rig.call(b"hi")
    rig.say(ANSWERS[name].says(1))

    assert call.seen is seen


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("HTTP 503", ErrorCode.CANCEL),
        ("two messages", ErrorCode.CANCEL),
        ("a length beyond what may be", ErrorCode.CANCEL),
        ("20 KB of metadata", ErrorCode.CANCEL),
        ("a name in capitals", ErrorCode.PROTOCOL_ERROR),
        ("DATA before headers", ErrorCode.PROTOCOL_ERROR),
        ("a window's update by 0", ErrorCode.PROTOCOL_ERROR),
        ("a reply", None),
        ("trailers only", None),
        ("reset: CANCEL", None),
    ],
)
def test_what_is_given_up_is_reset(name: str, code: ErrorCode | None) -> None:
    rig = Rig()
    rig.call(b"hi")
    rig.say(ANSWERS[name].says(1))

    assert rig.peer.calls[1].reset is code


def test_refused_after_headers_is_no_refusal() -> None:
    """A server whose headers came has seen the call, whatever it says after."""
    rig = Rig()
    call = rig.call(b"hi")
    said = ANSWERS["reset after headers"].says(1)
    rig.say(said[: -len(b"xxxx")] + b"\0\0\0\7")

    assert call.processed is Processed.UNKNOWN
