"""
Held events: rows in which an aggregate's events wait while the first of them can't be handled.

    first in line, due       tried again then
    first in line, dead      waits for an operator, with its cause
    behind the first         neither: waits for those before it
"""

from __future__ import annotations

from dataclasses import dataclass

from mesh.events.event import Event
from mesh.store.database import Row, Transaction

# Held events tried in one transaction.
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Held:
    """An event that could not be handled `attempts` times, for the last time because of `cause`."""

    event: Event
    attempts: int
    cause: str


def behind(tx: Transaction, consumer: str, source: str, event: Event) -> None:
    """Hold an event behind the earlier ones."""
    _insert(tx, consumer, source, event, 0, "", None, None)


def first(
    tx: Transaction,
    consumer: str,
    source: str,
    event: Event,
    cause: str,
    due: float | None,
    now: float,
) -> None:
    """Hold an event that failed for the first time; without `due` that was its only try."""
    _insert(tx, consumer, source, event, 1, cause, due, None if due else now)


def ready(tx: Transaction, consumer: str, source: str, event: Event, due: float) -> None:
    """Hold an event that nobody has tried yet, and that is the first of its aggregate."""
    _insert(tx, consumer, source, event, 0, "", due, None)


async def due(tx: Transaction, consumer: str, source: str, now: float) -> list[Held]:
    """Events to try now, at most one of an aggregate."""
    rows = await tx.fetch(
        "select * from inbox_held where consumer = $1 and source = $2 and due_at <= $3"
        " order by due_at limit $4",
        consumer,
        source,
        now,
        _BATCH,
    )
    return [of(row) for row in rows]


async def next_due(tx: Transaction, consumer: str, source: str) -> float | None:
    """When the next event is to be tried."""
    row = await tx.fetchrow(
        "select min(due_at) as due_at from inbox_held"
        " where consumer = $1 and source = $2 and due_at is not null",
        consumer,
        source,
    )
    return row["due_at"] if row else None


def failed(
    tx: Transaction,
    consumer: str,
    source: str,
    event: Event,
    attempts: int,
    cause: str,
    due: float | None,
    now: float,
) -> None:
    """It failed again; without `due` for the last time: it is dead now."""
    tx.post(
        "update inbox_held set attempts = $4, cause = $5, due_at = $6, dead_at = $7"
        " where consumer = $1 and source = $2 and position = $3",
        consumer,
        source,
        event.position,
        attempts,
        cause,
        due,
        None if due else now,
    )


def done(tx: Transaction, consumer: str, source: str, event: Event, now: float) -> None:
    """The event is out of the way: the next one of its aggregate is due."""
    tx.post(
        "delete from inbox_held where consumer = $1 and source = $2 and position = $3",
        consumer,
        source,
        event.position,
    )
    tx.post(
        "update inbox_held set due_at = $5 where consumer = $1 and source = $2 and position ="
        " (select min(position) from inbox_held where consumer = $1 and source = $2"
        " and aggregate = $3 and aggregate_id = $4)",
        consumer,
        source,
        event.aggregate,
        event.aggregate_id,
        now,
    )


async def dead(tx: Transaction, consumer: str, source: str, limit: int) -> list[Held]:
    """Events that nobody tries any more."""
    rows = await tx.fetch(
        "select * from inbox_held where consumer = $1 and source = $2 and dead_at is not null"
        " order by position limit $3",
        consumer,
        source,
        limit,
    )
    return [of(row) for row in rows]


async def redrive(tx: Transaction, consumer: str, source: str, position: int, now: float) -> bool:
    """Have a dead event tried again, with all its attempts back."""
    return (
        await tx.execute(
            "update inbox_held set attempts = 0, due_at = $4, dead_at = null"
            " where consumer = $1 and source = $2 and position = $3 and dead_at is not null",
            consumer,
            source,
            position,
            now,
        )
        == 1
    )


async def drop(tx: Transaction, consumer: str, source: str, position: int, now: float) -> bool:
    """Give a dead event up."""
    row = await tx.fetchrow(
        "select * from inbox_held where consumer = $1 and source = $2 and position = $3"
        " and dead_at is not null",
        consumer,
        source,
        position,
    )
    if row is None:
        return False
    done(tx, consumer, source, of(row).event, now)
    return True


def _insert(
    tx: Transaction,
    consumer: str,
    source: str,
    event: Event,
    attempts: int,
    cause: str,
    due: float | None,
    dead: float | None,
) -> None:
    tx.post(
        "insert into inbox_held values"
        " ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        consumer,
        source,
        event.position,
        event.event_id,
        event.event_type,
        event.aggregate,
        event.aggregate_id,
        event.sequence,
        event.occurred_at,
        event.traceparent,
        event.payload,
        attempts,
        cause,
        due,
        dead,
    )


def of(row: Row) -> Held:
    """The held event that a row is."""
    event = Event(
        position=row["position"],
        event_id=row["event_id"],
        event_type=row["event_type"],
        aggregate=row["aggregate"],
        aggregate_id=row["aggregate_id"],
        sequence=row["sequence"],
        occurred_at=row["occurred_at"],
        traceparent=row["traceparent"],
        payload=bytes(row["payload"]),
    )
    return Held(event, row["attempts"], row["cause"])
