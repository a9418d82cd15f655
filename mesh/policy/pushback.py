"""
What a failed server says about trying again, read from its trailers without protobuf.

    grpc-retry-pushback-ms: 250          try again after exactly 250 ms (gRFC A6)
    grpc-retry-pushback-ms: -1           do not try again; so does anything that is no number
    grpc-status-details-bin: <Status>    google.rpc.Status, whose details may hold RetryInfo (when
                                         to come back) and ErrorInfo (the reason)

Only failures pay for the reading, and only these two details are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mesh.errors import CallFailed

PUSHBACK = "grpc-retry-pushback-ms"
DETAILS = "grpc-status-details-bin"
RETRY_INFO = b"google.rpc.RetryInfo"
ERROR_INFO = b"google.rpc.ErrorInfo"
INT32 = 2**31
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# Of a server's word about time, this much is believed; seconds.
LONGEST = 300.0


@dataclass(frozen=True, slots=True)
class Pushback:
    """`delay` is how long to wait, exactly; None is a server that wants no further attempt."""

    delay: float | None


def pushback(failure: CallFailed) -> Pushback | None:
    """What the server asks for, if it asks for anything; fills in `reason` and `retry_after`."""
    asked = None
    for key, value in failure.trailing:
        if key == DETAILS and isinstance(value, bytes):
            _read(failure, value)
        elif key == PUSHBACK and asked is None:
            asked = _parse(value)
    if asked is None and failure.retry_after is not None:
        return Pushback(failure.retry_after) if failure.retry_after <= LONGEST else None
    return asked


def _parse(value: str | bytes) -> Pushback:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    digits = text.removeprefix("-")
    # "If the value for pushback is negative or unparseble, then it will be seen as the server
    # asking the client not to retry at all." - gRFC A6
    if not (digits.isascii() and digits.isdigit()) or not 0 <= int(text) < INT32:
        return Pushback(None)
    return Pushback(int(text) / 1000)


def _read(failure: CallFailed, data: bytes) -> None:
    try:
        for number, detail in _fields(data):
            if number == 3 and isinstance(detail, bytes):
                _read_detail(failure, dict(_fields(detail)))
    except ValueError:
        # Details are advice; a server that garbles them has failed all the same.
        return


def _read_detail(failure: CallFailed, packed: dict[int, int | bytes]) -> None:
    kind, body = packed.get(1, b""), packed.get(2, b"")
    if not isinstance(kind, bytes) or not isinstance(body, bytes):
        return
    if kind.endswith(b"/" + RETRY_INFO):
        delay = dict(_fields(body)).get(1, b"")
        if isinstance(delay, bytes):
            duration = dict(_fields(delay))
            seconds, nanos = duration.get(1, 0), duration.get(2, 0)
            # A negative duration is a varint beyond 2**63.
            if isinstance(seconds, int) and isinstance(nanos, int) and seconds < 2**63:
                failure.retry_after = seconds + nanos / 1e9
    elif kind.endswith(b"/" + ERROR_INFO):
        info = dict(_fields(body))
        reason, domain = info.get(1, b""), info.get(2, b"")
        if isinstance(reason, bytes) and isinstance(domain, bytes):
            failure.reason = reason.decode("utf-8", "replace")
            failure.domain = domain.decode("utf-8", "replace")


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message, by number; ValueError when it is none."""
    place, end = 0, len(data)
    while place < end:
        tag, place = _varint(data, place)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, place = _varint(data, place)
            yield number, value
            continue
        if wire == BYTES:
            size, place = _varint(data, place)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire} is none of protobuf's")
        if place + size > end:
            raise ValueError("the message ends within a field")
        yield number, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data) and shift < 70:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError("the message ends within a number")
