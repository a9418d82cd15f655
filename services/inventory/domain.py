"""
Products, their stock, and what of it is held for orders.

                 reserve              commit
    (nothing) ------------->  HELD  ----------> COMMITTED
        |                      | release            | release
        +----------------------+---------> RELEASED <
          release of what was never seen

Of each product, imported = available + reserved + sold: a reservation only ever moves stock from
one of these to another.  A RELEASED reservation is refused when it is asked for, so one that
arrives after its release holds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum


class Status(Enum):
    """What became of a reservation."""

    HELD = "HELD"
    COMMITTED = "COMMITTED"
    RELEASED = "RELEASED"


class Fact(Enum):
    """What happened to a reservation, as others are told."""

    RESERVED = "StockReserved"
    RELEASED = "StockReleased"


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in whole `units` and billionths (`nanos`) of a currency."""

    currency: str
    units: int
    nanos: int = 0


@dataclass(frozen=True, slots=True)
class Product:
    """Something the shop sells, and how many of it are where."""

    product_id: str
    title: str
    price: Money
    available: int = 0
    reserved: int = 0
    sold: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """How many of one product."""

    product_id: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Reservation:
    """Stock held for an order; `created` is nanoseconds since 1970."""

    reservation_id: str
    order_id: str
    items: tuple[Item, ...]
    status: Status
    created: int
    # The customer for whose order it is; "" for nobody who is known.
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Move:
    """Stock of one product that goes from one place to another; each number is added."""

    product_id: str
    available: int = 0
    reserved: int = 0
    sold: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """The reservation as it is now, what that moves, and what others are told."""

    reservation: Reservation
    moves: tuple[Move, ...] = ()
    fact: Fact | None = None
    # Whether the reservation has to be written: it is new, or has another status than before.
    changed: bool = False


class ProductNotFound(Exception):
    """No such product."""


class OutOfStock(Exception):
    """A product has less than is asked for."""


class ReservationReleased(Exception):
    """The reservation was given back, perhaps before it was ever made."""


class ReservationExists(Exception):
    """Another reservation has this id."""


class ReservationNotFound(Exception):
    """No such reservation."""


class ImportTooLarge(Exception):
    """More products in one import than are taken at once."""


def totals(items: Iterable[Item]) -> dict[str, int]:
    """How many of each product *items* ask for together, by product id."""
    wanted: dict[str, int] = {}
    for item in items:
        wanted[item.product_id] = wanted.get(item.product_id, 0) + item.quantity
    return dict(sorted(wanted.items()))


def reserve(wanted: Reservation, known: Reservation | None, stock: Mapping[str, int]) -> Change:
    """Hold what *wanted* asks for, all or nothing; *stock* is what is available of each product."""
    if known is not None:
        if known.status is Status.RELEASED:
            raise ReservationReleased(f"reservation {known.reservation_id} was released")
        if (known.order_id, known.items) != (wanted.order_id, wanted.items):
            raise ReservationExists(
                f"reservation {known.reservation_id} exists and is not this one"
            )
        return Change(known)
    asked = totals(wanted.items)
    for product_id in asked:
        if product_id not in stock:
            raise ProductNotFound(f"there is no product {product_id!r}")
    for product_id, quantity in asked.items():
        if stock[product_id] < quantity:
            raise OutOfStock(
                f"{quantity} of {product_id!r} are wanted and {stock[product_id]} available"
            )
    moves = tuple(
        Move(product_id, available=-quantity, reserved=quantity)
        for product_id, quantity in asked.items()
    )
    return Change(wanted, moves, Fact.RESERVED, changed=True)


def commit(known: Reservation | None, reservation_id: str) -> Change:
    """Turn held stock into sold stock."""
    if known is None:
        raise ReservationNotFound(f"there is no reservation {reservation_id!r}")
    if known.status is Status.RELEASED:
        raise ReservationReleased(f"reservation {reservation_id} was released")
    if known.status is Status.COMMITTED:
        return Change(known)
    moves = tuple(
        Move(product_id, reserved=-quantity, sold=quantity)
        for product_id, quantity in totals(known.items).items()
    )
    return Change(replace(known, status=Status.COMMITTED), moves, changed=True)


def release(known: Reservation | None, reservation_id: str, now: int) -> Change:
    """Give stock back; of a reservation never seen, make sure that it never holds any."""
    if known is None:
        never = Reservation(reservation_id, "", (), Status.RELEASED, now)
        return Change(never, changed=True)
    if known.status is Status.RELEASED:
        return Change(known)
    held = known.status is Status.HELD
    moves = tuple(
        Move(product_id, available=quantity, reserved=-quantity)
        if held
        else Move(product_id, available=quantity, sold=-quantity)
        for product_id, quantity in totals(known.items).items()
    )
    return Change(replace(known, status=Status.RELEASED), moves, Fact.RELEASED, changed=True)


def bounded(products: Sequence[Product], most: int) -> Sequence[Product]:
    """*products*, unless they are too many for one import."""
    if len(products) > most:
        raise ImportTooLarge(f"an import takes at most {most} products")
    return products
