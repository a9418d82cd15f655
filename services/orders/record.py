"""An order as text and back: how the store and the saga's journal keep it."""

from __future__ import annotations

import json
from typing import Any

from services.orders.domain import Item, Order, Reason, Status
from services.orders.money import Money


def write(order: Order) -> str:
    return json.dumps(
        {
            "order_id": order.order_id,
            "customer_id": order.customer_id,
            "items": [
                [item.product_id, item.quantity, write_money(item.unit_price)]
                for item in order.items
            ],
            "payment_method": order.payment_method,
            "note": order.note,
            "shipping_address": order.shipping_address,
            "status": order.status.value,
            "cancel_reason": order.cancel_reason and order.cancel_reason.value,
            "total": write_money(order.total),
            "created": order.created,
            "updated": order.updated,
        },
        separators=(",", ":"),
    )


def read(text: str) -> Order:
    kept: dict[str, Any] = json.loads(text)
    kept["items"] = tuple(
        Item(product_id, quantity, read_money(price))
        for product_id, quantity, price in kept["items"]
    )
    kept["status"] = Status(kept["status"])
    kept["cancel_reason"] = kept["cancel_reason"] and Reason(kept["cancel_reason"])
    kept["total"] = read_money(kept["total"])
    return Order(**kept)


def write_money(money: Money | None) -> list[str | int] | None:
    return None if money is None else [money.currency, money.units, money.nanos]


def read_money(kept: Any) -> Money | None:
    return None if kept is None else Money(*kept)
