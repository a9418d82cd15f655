"""Messages of the contract as the facts that an auditor compares, and a report as a message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money
from proxyless.audit import v1 as audit
from proxyless.events.v1 import FeedEvent
from shop.events import v1 as events
from shop.inventory import v1 as inventory
from shop.notifications import v1 as notifications
from shop.orders import v1 as orders
from shop.payments import v1 as payments

from services.audit import domain
from services.audit.auditing import Report
from services.audit.money import NANOS


def order(message: orders.Order) -> domain.Order:
    return domain.Order(
        order_id=message.order_id,
        status=orders.OrderStatus.Name(message.status).removeprefix("ORDER_STATUS_"),
        reason=message.cancel_reason,
        items=_items(message.items),
        total=_amount(message.total) if message.HasField("total") else None,
        created=_seconds(message.create_time),
        updated=_seconds(message.update_time),
    )


def payment(message: payments.Payment) -> domain.Payment:
    return domain.Payment(
        payment_id=message.payment_id,
        order_id=message.order_id,
        status=payments.PaymentStatus.Name(message.status).removeprefix("PAYMENT_STATUS_"),
        amount=_amount(message.amount) if message.HasField("amount") else None,
        created=_seconds(message.create_time),
    )


def reservation(message: inventory.Reservation) -> domain.Reservation:
    status = inventory.ReservationStatus.Name(message.status)
    return domain.Reservation(
        reservation_id=message.reservation_id,
        order_id=message.order_id,
        status=status.removeprefix("RESERVATION_STATUS_"),
        items=_items(message.items),
        created=_seconds(message.create_time),
    )


def product(message: inventory.Product) -> domain.Product:
    return domain.Product(message.product_id, message.available, message.reserved, message.sold)


def notification(message: notifications.Notification) -> domain.Notification:
    return domain.Notification(message.notification_id, message.order_id, message.kind)


def event(message: FeedEvent) -> domain.Event:
    told = events.Event.FromString(message.payload)
    kind = told.WhichOneof("data")
    return domain.Event(
        position=message.position,
        event_id=message.event_id,
        event_type=message.event_type,
        aggregate_id=message.aggregate_id,
        order_id=getattr(told, kind).order_id if kind else "",
        sequence=message.sequence,
        occurred=_seconds(message.occurred_at),
    )


def report(found: Report) -> audit.Report:
    return audit.Report(
        wrong=[_finding(each) for each in found.wrong],
        in_flight=[_finding(each) for each in found.in_flight],
        figures=found.figures,
        imported=found.imported,
    )


def _finding(found: domain.Finding) -> audit.Finding:
    return audit.Finding(
        subject=audit.Subject.Value(f"SUBJECT_{found.subject.value}"), text=found.text
    )


def _items(items: Iterable[Any]) -> Mapping[str, int]:
    """How many of each product; a product may be named more than once."""
    wanted = Counter[str]()
    for item in items:
        wanted[item.product_id] += item.quantity
    return dict(sorted(wanted.items()))


def _amount(money: Money) -> domain.Amount:
    return money.currency_code, money.units * NANOS + money.nanos


def _seconds(time: Timestamp) -> float:
    return time.ToNanoseconds() / 1e9
