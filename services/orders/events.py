"""What other services are told of orders: facts of the domain as events of the contract."""

from __future__ import annotations

from google.type import money_pb2
from shop.events.v1 import Event, OrderCancelled, OrderConfirmed, OrderCreated

from mesh.events.outbox import Message
from services.orders.domain import Fact, Order
from services.orders.money import Money

AGGREGATE = "order"


def message(fact: Fact, order: Order, traceparent: str = "") -> Message:
    """The outbox message that tells of *fact*."""
    return Message(
        event_type=fact.value,
        aggregate=AGGREGATE,
        aggregate_id=order.order_id,
        payload=_event(fact, order).SerializeToString(),
        traceparent=traceparent,
    )


def _event(fact: Fact, order: Order) -> Event:
    ids = {"order_id": order.order_id, "customer_id": order.customer_id}
    match fact:
        case Fact.CREATED:
            return Event(order_created=OrderCreated(**ids))
        case Fact.CONFIRMED:
            return Event(order_confirmed=OrderConfirmed(**ids, total=money_message(order.total)))
        case Fact.CANCELLED:
            reason = order.cancel_reason.value if order.cancel_reason else ""
            return Event(order_cancelled=OrderCancelled(**ids, cancel_reason=reason))


def money_message(money: Money | None) -> money_pb2.Money | None:
    """The amount as the contract has it; None for one that is not known yet."""
    if money is None:
        return None
    return money_pb2.Money(currency_code=money.currency, units=money.units, nanos=money.nanos)
