"""
Orders in SQL: the row as it is, and beside it every version it had.

A watcher asks for the versions after the last one it saw, so it misses no change, however fast they
come and whichever instance made them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mesh.store import Row, Transaction
from services.orders.domain import Order, OrderNotFound, Status
from services.orders.record import read, write

# After every row there is, for a first page.
NEWEST = (2**63 - 1, "")

# Arguments of one statement; databases take no endless number of them.
MOST_ARGUMENTS = 500


@dataclass(frozen=True, slots=True)
class Version:
    """An order as one commit left it; versions count 1, 2, ..."""

    order: Order
    version: int


@dataclass(frozen=True, slots=True)
class Newest:
    """An order's present version, and whether it is its last."""

    version: int
    is_final: bool


def insert(tx: Transaction, order: Order) -> None:
    body = write(order)
    tx.post(
        """
        insert into orders (order_id, customer_id, status, created, version, body)
        values ($1, $2, $3, $4, 1, $5)
        """,
        order.order_id,
        order.customer_id,
        order.status.value,
        order.created,
        body,
    )
    _keep_version(tx, order.order_id, 1, body)


async def load(tx: Transaction, order_id: str, customer_id: str | None = None) -> Version:
    """The order; OrderNotFound when there is none, or none of this customer's."""
    row = await tx.fetchrow(
        "select version, body, customer_id from orders where order_id = $1", order_id
    )
    if row is None or customer_id not in (None, row["customer_id"]):
        raise OrderNotFound(f"there is no order {order_id!r}")
    return _version(row)


def save(tx: Transaction, order: Order, before: Version) -> None:
    """Write *order* over the version *before*, which was loaded in the same transaction."""
    body = write(order)
    version = before.version + 1
    tx.post(
        "update orders set status = $2, version = $3, body = $4 where order_id = $1",
        order.order_id,
        order.status.value,
        version,
        body,
    )
    _keep_version(tx, order.order_id, version, body)


async def versions_after(tx: Transaction, order_id: str, version: int) -> list[Version]:
    """What the order became since *version*, in order."""
    rows = await tx.fetch(
        """
        select version, body from order_versions
        where order_id = $1 and version > $2 order by version
        """,
        order_id,
        version,
    )
    return [_version(row) for row in rows]


async def newest_of(tx: Transaction, order_ids: Sequence[str]) -> dict[str, Newest]:
    """How far each of these orders has got."""
    found: dict[str, Newest] = {}
    for first in range(0, len(order_ids), MOST_ARGUMENTS):
        asked = order_ids[first : first + MOST_ARGUMENTS]
        places = ", ".join(f"${number}" for number in range(1, len(asked) + 1))
        rows = await tx.fetch(
            f"select order_id, version, status from orders where order_id in ({places})",  # noqa: S608
            *asked,
        )
        for row in rows:
            found[row["order_id"]] = Newest(row["version"], Status(row["status"]).is_final)
    return found


async def page(
    tx: Transaction,
    *,
    customer_id: str,
    status: Status | None,
    after: tuple[int, str] | None,
    limit: int,
) -> list[Order]:
    """Orders, newest first, those after the one made at and named *after*."""
    created, order_id = after or NEWEST
    arguments: list[int | str] = [created, order_id, limit]
    where = "(created < $1 or (created = $1 and order_id < $2))"
    for column, wanted in (("customer_id", customer_id), ("status", status and status.value)):
        if wanted:
            arguments.append(wanted)
            where += f" and {column} = ${len(arguments)}"
    rows = await tx.fetch(
        f"""
        select body from orders where {where}
        order by created desc, order_id desc limit $3
        """,  # noqa: S608 - the columns are named above
        *arguments,
    )
    return [read(row["body"]) for row in rows]


def _keep_version(tx: Transaction, order_id: str, version: int, body: str) -> None:
    tx.post(
        "insert into order_versions (order_id, version, body) values ($1, $2, $3)",
        order_id,
        version,
        body,
    )


def _version(row: Row) -> Version:
    return Version(read(row["body"]), row["version"])
