"""
What a server says of its failure in google.rpc.Status, read from the trailers without protobuf.

    grpc-status-details-bin: <Status>    ErrorInfo  the reason, and in whose name
                                         RetryInfo  when to come back

Only failures pay for the reading, and only these two details are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

DETAILS = "grpc-status-details-bin"
RETRY_INFO = b"google.rpc.RetryInfo"
ERROR_INFO = b"google.rpc.ErrorInfo"
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


@dataclass(slots=True)
class Details:
    """What was found; `retry_after` is in seconds."""

    reason: str = ""
    domain: str = ""
    retry_after: float | None = None


def details(trailing: Iterable[tuple[str, str | bytes]]) -> Details | None:
    """The details among trailing metadata; None where there are none."""
    found = None
    for key, value in trailing:
        if key == DETAILS and isinstance(value, bytes):
            found = found or Details()
            _read(found, value)
    return found


def _read(found: Details, data: bytes) -> None:
    try:
        for number, detail in _fields(data):
            if number == 3 and isinstance(detail, bytes):
                _read_detail(found, dict(_fields(detail)))
    except ValueError:
        # Details are advice; a server that garbles them has failed all the same.
        return


def _read_detail(found: Details, packed: dict[int, int | bytes]) -> None:
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
                found.retry_after = seconds + nanos / 1e9
    elif kind.endswith(b"/" + ERROR_INFO):
        info = dict(_fields(body))
        reason, domain = info.get(1, b""), info.get(2, b"")
        if isinstance(reason, bytes) and isinstance(domain, bytes):
            found.reason = reason.decode("utf-8", "replace")
            found.domain = domain.decode("utf-8", "replace")


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
