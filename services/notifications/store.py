"""Notifications in SQL, in the order they were written; positions have no gaps."""

from __future__ import annotations

from collections.abc import Sequence

from mesh.store import Row, Transaction
from services.notifications.domain import Notification

NEWEST = 2**63 - 1


async def last_position(tx: Transaction) -> int:
    row = await tx.fetchrow("select coalesce(max(position), 0) as last from notifications")
    assert row is not None, "an aggregate has one row"
    return int(row["last"])


def insert(tx: Transaction, notification: Notification) -> None:
    """Keep the notification at the next position."""
    tx.post(
        """
        insert into notifications
            (position, notification_id, customer_id, order_id, kind, text, created)
        select coalesce(max(position), 0) + 1, $1, $2, $3, $4, $5, $6 from notifications
        """,
        notification.notification_id,
        notification.customer_id,
        notification.order_id,
        notification.kind,
        notification.text,
        notification.created,
    )


async def page(
    tx: Transaction, *, customer_id: str, before: int | None, limit: int
) -> list[Notification]:
    """Notifications, newest first, those before the position *before*."""
    arguments: list[int | str] = [NEWEST if before is None else before, limit]
    where = "position < $1"
    if customer_id:
        arguments.append(customer_id)
        where += " and customer_id = $3"
    rows = await tx.fetch(
        f"select * from notifications where {where} order by position desc limit $2",  # noqa: S608
        *arguments,
    )
    return [_notification(row) for row in rows]


async def position_of(tx: Transaction, notification_id: str) -> int | None:
    row = await tx.fetchrow(
        "select position from notifications where notification_id = $1", notification_id
    )
    return None if row is None else int(row["position"])


async def after(
    tx: Transaction, customer_ids: Sequence[str], position: int, limit: int
) -> list[Notification]:
    """These customers' notifications after *position*, oldest first."""
    places = ", ".join(f"${number}" for number in range(3, len(customer_ids) + 3))
    rows = await tx.fetch(
        f"""
        select * from notifications where position > $1 and customer_id in ({places})
        order by position limit $2
        """,  # noqa: S608 - numbered places only
        position,
        limit,
        *customer_ids,
    )
    return [_notification(row) for row in rows]


def _notification(row: Row) -> Notification:
    return Notification(
        notification_id=row["notification_id"],
        customer_id=row["customer_id"],
        order_id=row["order_id"],
        kind=row["kind"],
        text=row["text"],
        created=row["created"],
        position=row["position"],
    )
