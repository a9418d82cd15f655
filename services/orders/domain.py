"""
An order's life.

    PENDING --reserved--> RESERVED --paid--> PAID --confirmed--> CONFIRMED
       |                     |                |
       +---------------------+----------------+--cancelled(reason)--> CANCELLED

Every change makes a new Order; one that is not in the diagram is an error and changes nothing.
Note and shipping address may be revised at any time: they are the customer's, not the saga's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from services.orders.money import Money, total


class Status(Enum):
    """How far an order has got."""

    PENDING = "PENDING"
    RESERVED = "RESERVED"
    PAID = "PAID"
    CONFIRMED = "CONFIRMED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        return self in (Status.CONFIRMED, Status.CANCELLED)


class Reason(Enum):
    """Why an order was cancelled."""

    CARD_DECLINED = "CARD_DECLINED"
    OUT_OF_STOCK = "OUT_OF_STOCK"
    PRODUCT_NOT_FOUND = "PRODUCT_NOT_FOUND"
    CANCELLED_BY_CUSTOMER = "CANCELLED_BY_CUSTOMER"
    TIMED_OUT = "TIMED_OUT"


class Fact(Enum):
    """What happened to an order, as others are told."""

    CREATED = "OrderCreated"
    CONFIRMED = "OrderConfirmed"
    CANCELLED = "OrderCancelled"


NEXT: Mapping[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.RESERVED, Status.CANCELLED}),
    Status.RESERVED: frozenset({Status.PAID, Status.CANCELLED}),
    Status.PAID: frozenset({Status.CONFIRMED, Status.CANCELLED}),
    Status.CONFIRMED: frozenset(),
    Status.CANCELLED: frozenset(),
}

# The fields that a customer may change.
REVISABLE = ("note", "shipping_address")
LONGEST_TEXT = 2000


class OrderNotFound(Exception):
    """No such order."""


class OrderConfirmed(Exception):
    """It is too late to cancel the order."""


class IllegalStep(Exception):
    """A change that an order's life does not know."""


class InvalidRevision(Exception):
    """A revision that names a field that is not the customer's, or a value that cannot be."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.fields = ((field, why),)


@dataclass(frozen=True, slots=True)
class Item:
    """What is wanted of one product; the price of one is known once the stock is reserved."""

    product_id: str
    quantity: int
    unit_price: Money | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """A customer's order; `created` and `updated` are nanoseconds since 1970."""

    order_id: str
    customer_id: str
    items: tuple[Item, ...]
    payment_method: str = ""
    note: str = ""
    shipping_address: str = ""
    status: Status = Status.PENDING
    cancel_reason: Reason | None = None
    total: Money | None = None
    created: int = 0
    updated: int = 0

    def taken(self, now: int) -> Order:
        """The order as the shop takes it: whatever else it says, nothing is done yet."""
        items = tuple(replace(item, unit_price=None) for item in self.items)
        return Order(
            order_id=self.order_id,
            customer_id=self.customer_id,
            items=items,
            payment_method=self.payment_method,
            note=self.note,
            shipping_address=self.shipping_address,
            created=now,
            updated=now,
        )

    def reserved(self, prices: Mapping[str, Money], now: int) -> Order:
        """The stock is held, and *prices* by product id are what it costs."""
        items = tuple(replace(item, unit_price=prices[item.product_id]) for item in self.items)
        cost = total(prices[item.product_id].times(item.quantity) for item in items)
        return replace(self._step(Status.RESERVED, now), items=items, total=cost)

    def paid(self, now: int) -> Order:
        return self._step(Status.PAID, now)

    def confirmed(self, now: int) -> Order:
        return self._step(Status.CONFIRMED, now)

    def cancelled(self, reason: Reason, now: int) -> Order:
        return replace(self._step(Status.CANCELLED, now), cancel_reason=reason)

    def revised(self, changes: Mapping[str, str], now: int) -> Order:
        """The order with *changes* by field; InvalidRevision names what can't be changed so."""
        for field, value in changes.items():
            if field not in REVISABLE:
                raise InvalidRevision(
                    "update_mask", f"{field!r} can't be changed, only {' and '.join(REVISABLE)}"
                )
            if len(value) > LONGEST_TEXT:
                raise InvalidRevision(f"order.{field}", f"has over {LONGEST_TEXT} characters")
        revised = replace(
            self,
            note=changes.get("note", self.note),
            shipping_address=changes.get("shipping_address", self.shipping_address),
        )
        return self if revised == self else replace(revised, updated=now)

    def _step(self, to: Status, now: int) -> Order:
        if to not in NEXT[self.status]:
            raise IllegalStep(f"order {self.order_id} is {self.status.value}, not {to.value} next")
        return replace(self, status=to, updated=now)
