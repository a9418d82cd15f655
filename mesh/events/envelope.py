"""An event on a bus: its payload as it is, everything else in headers that any broker can carry."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, unquote
from zlib import crc32

from mesh.events.event import Event

# Names and ids are anything; header values are visible ASCII.
_PLAIN = " !#$&'()*+,/:;=?@[]"


class Unreadable(ValueError):
    """A message on a bus is no event: somebody else's, or broken; the text says what is wrong."""


def headers(event: Event) -> dict[str, str]:
    """What a bus carries beside the payload; what would be empty is left out."""
    fields = {
        "event-id": event.event_id,
        "event-type": event.event_type,
        "aggregate": event.aggregate,
        "aggregate-id": event.aggregate_id,
        "sequence": str(event.sequence),
        "position": str(event.position),
        "occurred-at": repr(event.occurred_at),
        "traceparent": event.traceparent,
    }
    return {name: quote(value, _PLAIN) for name, value in fields.items() if value}


def opened(fields: Mapping[str, str], payload: bytes) -> Event:
    """The event that was put into headers and payload; raises Unreadable."""
    try:
        return Event(
            position=int(fields["position"]),
            event_id=unquote(fields["event-id"]),
            event_type=unquote(fields.get("event-type", "")),
            aggregate=unquote(fields.get("aggregate", "")),
            aggregate_id=unquote(fields.get("aggregate-id", "")),
            sequence=int(fields["sequence"]),
            occurred_at=float(fields["occurred-at"]),
            traceparent=unquote(fields.get("traceparent", "")),
            payload=payload,
        )
    except KeyError as missing:
        raise Unreadable(f"no header {missing.args[0]!r}") from missing
    except ValueError as wrong:
        raise Unreadable(f"a header is wrong: {wrong}") from wrong


def partition(event: Event, partitions: int) -> int:
    """Where the event goes: the events of one aggregate all go to the same one."""
    return crc32(f"{event.aggregate}/{event.aggregate_id}".encode()) % partitions


def word(name: str, also: str = "") -> str:
    """A name as brokers allow it: ASCII letters, digits, - and `also`; any other by its number."""
    return "".join(
        c if c.isascii() and (c.isalnum() or c in f"-{also}") else f"_{ord(c):x}_" for c in name
    )
