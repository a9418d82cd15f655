"""
Stock: what is sold is what the confirmed orders hold, and nothing else is held by finished ones.

    CONFIRMED  its reservation is COMMITTED, over what was ordered
    CANCELLED  none, or RELEASED
    a product  sold      between what finished orders bought and that with all in flight
               reserved  at most what orders in flight want
               available + reserved + sold = imported, where somebody counted that before
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from services.audit.domain import Books, Finding, Order, Product, Reservation, Subject


def stock(books: Books) -> Iterator[Finding]:
    """What does not agree between orders, reservations and products."""
    yield from _reservations(books)
    bought, moving = Counter[str](), Counter[str]()
    for order in books.finished():
        if order.status == "CONFIRMED":
            bought.update(order.items)
    for order in books.in_flight():
        moving.update(order.items)
    known = {product.product_id: product for product in books.products}
    for product in books.products:
        name = product.product_id
        yield from _product(product, bought[name], moving[name], books.imported)
    for name in sorted(bought.keys() - known.keys()):
        yield _wrong(f"product {name} is not listed, and orders bought {bought[name]} of it")
    for name in sorted(books.imported.keys() - known.keys()):
        yield _wrong(f"product {name} is not listed, and {books.imported[name]} came in")


def _product(
    product: Product, bought: int, moving: int, imported: Mapping[str, int]
) -> Iterator[Finding]:
    name = f"product {product.product_id}"
    if not bought <= product.sold <= bought + moving:
        yield _wrong(
            f"{name}: {product.sold} are sold, confirmed orders bought {bought}"
            + (f" and orders in flight want {moving}" if moving else "")
        )
    if not 0 <= product.reserved <= moving:
        yield _wrong(f"{name}: {product.reserved} are reserved, orders in flight want {moving}")
    if product.available < 0:
        yield _wrong(f"{name}: {product.available} are available")
    counted = imported.get(product.product_id)
    if counted is not None and counted != product.imported:
        yield _wrong(
            f"{name}: {counted} came in, and {product.available} available, {product.reserved}"
            f" reserved and {product.sold} sold are {product.imported}"
        )


def _reservations(books: Books) -> Iterator[Finding]:
    kept: dict[str, list[Reservation]] = {}
    for reservation in books.reservations:
        kept.setdefault(reservation.order_id, []).append(reservation)
        if reservation.order_id not in books.after and reservation.status != "RELEASED":
            yield _wrong(
                f"reservation {reservation.reservation_id} is {reservation.status}"
                f" for order {reservation.order_id!r}, which does not exist"
            )
    for order in books.finished():
        yield from _of_order(order, kept.get(order.order_id, []))


def _of_order(order: Order, mine: list[Reservation]) -> Iterator[Finding]:
    name = f"order {order.order_id} is {order.status}"
    wanted = "COMMITTED" if order.status == "CONFIRMED" else "RELEASED"
    for reservation in mine:
        if reservation.status not in (wanted, "RELEASED"):
            yield _wrong(
                f"{name}, and reservation {reservation.reservation_id} is {reservation.status}"
            )
    if order.status != "CONFIRMED":
        return
    committed = [each for each in mine if each.status == "COMMITTED"]
    if len(committed) != 1:
        ids = ", ".join(f"{each.reservation_id} {each.status}" for each in mine)
        yield _wrong(f"{name}, and its stock is sold {len(committed)} times: {ids or 'never kept'}")
    elif committed[0].items != order.items:
        yield _wrong(
            f"{name} over {_listed(order.items)}, and reservation"
            f" {committed[0].reservation_id} is over {_listed(committed[0].items)}"
        )


def _listed(items: Mapping[str, int]) -> str:
    return ", ".join(f"{quantity} {product_id}" for product_id, quantity in items.items())


def _wrong(what: str) -> Finding:
    return Finding(Subject.STOCK, what)
