"""What a customer is told of an order's event: one notification for each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Notification:
    """One thing a customer was told, at a `position` in the list; `created` is ns since 1970."""

    notification_id: str
    customer_id: str
    order_id: str
    kind: str
    text: str
    created: int
    position: int = 0


class UnknownNotification(Exception):
    """A notification that was never written is named as the last one seen."""


class TooManyCustomers(Exception):
    """More customers on one subscription than one may follow."""


WHY = {
    "CARD_DECLINED": "the card was declined",
    "OUT_OF_STOCK": "we have too little of it",
    "PRODUCT_NOT_FOUND": "we do not sell that",
    "CANCELLED_BY_CUSTOMER": "as you asked",
    "TIMED_OUT": "it took us too long",
}


def created(order_id: str) -> str:
    return f"We have your order {order_id}."


def confirmed(order_id: str) -> str:
    return f"Your order {order_id} is paid and on its way."


def cancelled(order_id: str, reason: str) -> str:
    return f"Your order {order_id} is cancelled: {WHY.get(reason, reason)}."
