"""Products and reservations in SQL.  Stock only ever moves: `move` adds to the three numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from mesh.store import Row, Transaction
from services.inventory.domain import Item, Money, Move, Product, Reservation, Status


async def load_product(tx: Transaction, product_id: str) -> Product | None:
    row = await tx.fetchrow("select * from products where product_id = $1", product_id)
    return None if row is None else _product(row)


async def list_products(tx: Transaction, after: str, limit: int) -> list[Product]:
    """Products by id, those after *after*."""
    rows = await tx.fetch(
        "select * from products where product_id > $1 order by product_id limit $2", after, limit
    )
    return [_product(row) for row in rows]


async def has_products(tx: Transaction) -> bool:
    return await tx.fetchrow("select 1 as one from products limit 1") is not None


async def available(tx: Transaction, product_ids: Iterable[str]) -> dict[str, int]:
    """How many of each known product can be held."""
    found: dict[str, int] = {}
    for product_id in product_ids:
        row = await tx.fetchrow("select available from products where product_id = $1", product_id)
        if row is not None:
            found[product_id] = row["available"]
    return found


async def take(tx: Transaction, products: Sequence[Product]) -> None:
    """Put products into the catalogue; what is imported of a known one is added to its stock."""
    for product in products:
        await tx.execute(
            """
            insert into products
                (product_id, title, currency, units, nanos, available, reserved, sold)
            values ($1, $2, $3, $4, $5, $6, 0, 0)
            on conflict (product_id) do update set
                title = excluded.title,
                currency = excluded.currency,
                units = excluded.units,
                nanos = excluded.nanos,
                available = products.available + excluded.available
            """,
            product.product_id,
            product.title,
            product.price.currency,
            product.price.units,
            product.price.nanos,
            product.available,
        )


def move(tx: Transaction, moves: Iterable[Move]) -> None:
    for each in moves:
        tx.post(
            """
            update products set
                available = available + $2, reserved = reserved + $3, sold = sold + $4
            where product_id = $1
            """,
            each.product_id,
            each.available,
            each.reserved,
            each.sold,
        )


async def load_reservation(tx: Transaction, reservation_id: str) -> Reservation | None:
    row = await tx.fetchrow("select * from reservations where reservation_id = $1", reservation_id)
    return None if row is None else _reservation(row)


async def load_reservation_of_order(tx: Transaction, order_id: str) -> Reservation | None:
    """The order's newest reservation."""
    row = await tx.fetchrow(
        """
        select * from reservations where order_id = $1
        order by created desc, reservation_id limit 1
        """,
        order_id,
    )
    return None if row is None else _reservation(row)


async def held_before(tx: Transaction, before: int, limit: int) -> list[Reservation]:
    """Reservations made before then and still HELD, the oldest first."""
    rows = await tx.fetch(
        """
        select * from reservations where status = 'HELD' and created < $1
        order by created limit $2
        """,
        before,
        limit,
    )
    return [_reservation(row) for row in rows]


def save_reservation(tx: Transaction, reservation: Reservation) -> None:
    """Insert the reservation, or change the status of the one that is there."""
    items = [[item.product_id, item.quantity] for item in reservation.items]
    tx.post(
        """
        insert into reservations (reservation_id, order_id, items, status, created, owner)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (reservation_id) do update set status = excluded.status
        """,
        reservation.reservation_id,
        reservation.order_id,
        json.dumps(items),
        reservation.status.value,
        reservation.created,
        reservation.owner,
    )


def _product(row: Row) -> Product:
    return Product(
        product_id=row["product_id"],
        title=row["title"],
        price=Money(row["currency"], row["units"], row["nanos"]),
        available=row["available"],
        reserved=row["reserved"],
        sold=row["sold"],
    )


def _reservation(row: Row) -> Reservation:
    return Reservation(
        reservation_id=row["reservation_id"],
        order_id=row["order_id"],
        items=tuple(
            Item(product_id, quantity) for product_id, quantity in json.loads(row["items"])
        ),
        status=Status(row["status"]),
        created=row["created"],
        owner=row["owner"],
    )
