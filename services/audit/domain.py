"""
The books as an auditor has copied them: facts of four services, read one after the other.

    orders, before -> events -> payments, reservations -> products -> notifications -> orders, after

Nobody stands still for it.  What makes it sound is the order of reading: an order that was finished
`before` had its money, stock and events in order by then and never changes again, so whatever is
read of it later must agree.  An order that was open before, or new after, is in flight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

FINISHED = ("CONFIRMED", "CANCELLED")

# How much by currency, in billionths.
Amount = tuple[str, int]


class Subject(Enum):
    """What a finding is about."""

    ORDER = "ORDER"
    MONEY = "MONEY"
    STOCK = "STOCK"
    EVENT = "EVENT"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not agree; `waiting` when it may well agree in a moment."""

    subject: Subject
    text: str
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """An order; `items` is how many of which product, times are seconds since 1970."""

    order_id: str
    status: str
    reason: str
    items: Mapping[str, int]
    total: Amount | None
    created: float
    updated: float

    @property
    def finished(self) -> bool:
        return self.status in FINISHED


@dataclass(frozen=True, slots=True)
class Payment:
    """Money taken, or not, for an order."""

    payment_id: str
    order_id: str
    status: str
    amount: Amount | None
    created: float


@dataclass(frozen=True, slots=True)
class Reservation:
    """Stock kept for an order, or not any more."""

    reservation_id: str
    order_id: str
    status: str
    items: Mapping[str, int]
    created: float


@dataclass(frozen=True, slots=True)
class Product:
    """How many of a product are where."""

    product_id: str
    available: int
    reserved: int
    sold: int

    @property
    def imported(self) -> int:
        return self.available + self.reserved + self.sold


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a feed; `order_id` is the order it is about, wherever it came from."""

    position: int
    event_id: str
    event_type: str
    aggregate_id: str
    order_id: str
    sequence: int
    occurred: float


@dataclass(frozen=True, slots=True)
class Notification:
    """What a customer was told of an order."""

    notification_id: str
    order_id: str
    kind: str


@dataclass(frozen=True, slots=True)
class Feed:
    """The events of one service, in their order; old ones may be gone."""

    source: str
    events: Sequence[Event] = ()

    def covers(self, created: float) -> bool:
        """Whether an event told at that time would still be here."""
        if not self.events or self.events[0].position == 1:
            return True
        return created > self.events[0].occurred

    def by_aggregate(self) -> Mapping[str, list[Event]]:
        found: dict[str, list[Event]] = {}
        for event in self.events:
            found.setdefault(event.aggregate_id, []).append(event)
        return found


@dataclass(frozen=True, slots=True)
class Books:
    """All that was read, by id; `now` is when the reading was over."""

    before: Mapping[str, Order]
    after: Mapping[str, Order]
    payments: Sequence[Payment]
    reservations: Sequence[Reservation]
    products: Sequence[Product]
    notifications: Sequence[Notification]
    feeds: Sequence[Feed]
    now: float
    # How many of each product ever came in, as somebody counted before.
    imported: Mapping[str, int] = field(default_factory=dict)

    def finished(self) -> Iterator[Order]:
        """The orders that everything must agree with."""
        return (order for order in self.before.values() if order.finished)

    def in_flight(self) -> Iterator[Order]:
        """The orders that are not done, or were not when the reading began."""
        for order_id, order in self.after.items():
            known = self.before.get(order_id)
            if known is None or not known.finished:
                yield order

    def is_finished(self, order_id: str) -> bool:
        order = self.before.get(order_id)
        return order is not None and order.finished
