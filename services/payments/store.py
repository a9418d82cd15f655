"""Payments in SQL: one row each, the newest of an order found by index."""

from __future__ import annotations

from mesh.store import Row, Transaction
from services.payments.domain import Money, Payment, Status


async def load(tx: Transaction, payment_id: str) -> Payment | None:
    row = await tx.fetchrow("select * from payments where payment_id = $1", payment_id)
    return None if row is None else _payment(row)


async def load_of_order(tx: Transaction, order_id: str) -> Payment | None:
    """The order's newest payment."""
    row = await tx.fetchrow(
        "select * from payments where order_id = $1 order by created desc, payment_id limit 1",
        order_id,
    )
    return None if row is None else _payment(row)


def save(tx: Transaction, payment: Payment) -> None:
    """Insert the payment, or change the status of the one that is there."""
    tx.post(
        """
        insert into payments
            (payment_id, order_id, currency, units, nanos, method, status, created, owner)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        on conflict (payment_id) do update set status = excluded.status
        """,
        payment.payment_id,
        payment.order_id,
        payment.amount.currency,
        payment.amount.units,
        payment.amount.nanos,
        payment.method,
        payment.status.value,
        payment.created,
        payment.owner,
    )


def _payment(row: Row) -> Payment:
    return Payment(
        payment_id=row["payment_id"],
        order_id=row["order_id"],
        amount=Money(row["currency"], row["units"], row["nanos"]),
        method=row["method"],
        status=Status(row["status"]),
        created=row["created"],
        owner=row["owner"],
    )
