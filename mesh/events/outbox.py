"""
The outbox: events are rows written in the transaction that makes them true, and told of later.

    async def work(tx):
        await tx.execute("update orders ...")
        await outbox.append(tx, Message("OrderConfirmed", "order", order_id, payload))

Positions grow in the order of commits, because writers wait for each other: a reader that is past
a position never misses a smaller one that is committed late.  Rows are kept until
every follower that has shown itself lately is past them, and never longer than RETENTION_SECONDS.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import uuid4

from mesh.events.event import Event
from mesh.store.database import Database, Row, Transaction
from mesh.store.migrate import migrations

COMPONENT = "outbox"

# The largest payload, in bytes: with its headers, and as text, it goes through every bus (SQS takes
# 256 KiB).  A larger one would stand in the relay's way for ever.
PAYLOAD_BYTES = 128 * 1024

# No event is kept for longer, in seconds; a follower that stays away for longer misses some.
RETENTION_SECONDS = 7 * 24 * 3600.0
# Rows that every follower is past are deleted this often, in seconds, so many at once.
PURGE_SECONDS = 60.0
PURGE_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Message:
    """What a service has to say; place in the order and name are the outbox's to give."""

    event_type: str
    aggregate: str
    aggregate_id: str
    payload: bytes
    traceparent: str = ""


class Outbox:
    """The outbox of one service's database."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self.database = database
        self._clock = clock
        self._purge_at = 0.0
        database.declare(COMPONENT, migrations("mesh.events", COMPONENT))

    async def append(self, tx: Transaction, message: Message) -> None:
        """
        Tell of `message` if and when this transaction is committed.

        Raises ValueError for a payload of more than PAYLOAD_BYTES.
        """
        if len(message.payload) > PAYLOAD_BYTES:
            raise ValueError(
                f"payload of {message.event_type} about {message.aggregate_id!r}:"
                f" {len(message.payload)} bytes are more than {PAYLOAD_BYTES}"
            )
        now = round(self._clock(), 6)  # as exact as any carrier of it is
        thing = message.aggregate, message.aggregate_id
        tx.post(
            "insert into outbox_sequence values ($1, $2, 1)"
            " on conflict (aggregate, aggregate_id)"
            " do update set sequence = outbox_sequence.sequence + 1",
            *thing,
        )
        tx.post(
            "insert into outbox (event_id, event_type, aggregate, aggregate_id, sequence,"
            " occurred_at, traceparent, payload) select $1, $2, aggregate, aggregate_id, sequence,"
            " $5, $6, $7 from outbox_sequence where aggregate = $3 and aggregate_id = $4",
            str(uuid4()),
            message.event_type,
            *thing,
            now,
            message.traceparent,
            message.payload,
        )
        if now >= self._purge_at:
            self._purge_at = now + PURGE_SECONDS
            await self.purge(tx)

    async def after(
        self, tx: Transaction, position: int, limit: int, aggregates: Sequence[str] = ()
    ) -> list[Event]:
        """The next events after a position, of these aggregates or of all."""
        places = ", ".join(f"${number}" for number in range(3, 3 + len(aggregates)))
        of = f"and aggregate in ({places})" if aggregates else ""
        rows = await tx.fetch(
            f"select * from outbox where position > $1 {of} order by position limit $2",  # noqa: S608
            position,
            limit,
            *aggregates,
        )
        return [_event(row) for row in rows]

    async def newest(self, tx: Transaction) -> int:
        """The position of the last event; 0 before the first.  The last one is never deleted."""
        row = await tx.fetchrow("select max(position) as position from outbox")
        return int(row["position"] or 0) if row else 0

    async def seen(self, tx: Transaction, consumer: str, position: int) -> None:
        """`consumer` has dealt with everything up to `position`."""
        await tx.execute(
            "insert into outbox_follower values ($1, $2, $3) on conflict (consumer)"
            " do update set position = excluded.position, seen_at = excluded.seen_at",
            consumer,
            position,
            self._clock(),
        )

    async def purge(self, tx: Transaction) -> int:
        """Delete what nobody needs; answers how many rows went."""
        oldest = self._clock() - RETENTION_SECONDS
        await tx.execute("delete from outbox_follower where seen_at < $1", oldest)
        row = await tx.fetchrow("select min(position) as position from outbox_follower")
        passed = row["position"] if row and row["position"] is not None else 0
        return await tx.execute(
            "delete from outbox where position in (select position from outbox"
            " where (position <= $1 or occurred_at < $2)"
            " and position < (select max(position) from outbox) order by position limit $3)",
            passed,
            oldest,
            PURGE_ROWS,
        )


def _event(row: Row) -> Event:
    return Event(
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
