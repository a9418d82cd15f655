"""An event: something that happened to one thing, numbered among what happened to that thing."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """
    One event as its source tells of it, whatever carried it here.

    `position` orders the source's events, with gaps; `sequence` counts those of one `aggregate_id`
    (1, 2, ...); `event_id` is the event's name wherever it goes; `occurred_at` is in seconds since
    1970; `traceparent` is the W3C trace context of what made it happen.
    """

    position: int
    event_id: str
    event_type: str
    aggregate: str
    aggregate_id: str
    sequence: int
    occurred_at: float
    traceparent: str
    payload: bytes
