"""What other services are told of stock: facts of the domain as events of the contract."""

from __future__ import annotations

from shop.events.v1 import Event, StockItem, StockReleased, StockReserved

from mesh.events.outbox import Message
from services.inventory.domain import Fact, Reservation

AGGREGATE = "reservation"


def message(fact: Fact, reservation: Reservation, traceparent: str) -> Message:
    """The outbox message that tells of *fact*."""
    return Message(
        event_type=fact.value,
        aggregate=AGGREGATE,
        aggregate_id=reservation.reservation_id,
        payload=_event(fact, reservation).SerializeToString(),
        traceparent=traceparent,
    )


def _event(fact: Fact, reservation: Reservation) -> Event:
    items = [
        StockItem(product_id=item.product_id, quantity=item.quantity) for item in reservation.items
    ]
    ids = {"reservation_id": reservation.reservation_id, "order_id": reservation.order_id}
    match fact:
        case Fact.RESERVED:
            return Event(stock_reserved=StockReserved(**ids, items=items))
        case Fact.RELEASED:
            return Event(stock_released=StockReleased(**ids, items=items))
