"""The audit's checks over made-up books: each disagreement is found, and named by its ids."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from services.audit.auditing import audit
from services.audit.domain import (
    Books,
    Event,
    Feed,
    Notification,
    Order,
    Payment,
    Product,
    Reservation,
)

COST = ("USD", 29_000_000_000)
NOW = 1000.0
MUGS = {"mug": 2}

BOUGHT = Order("o-1", "CONFIRMED", "", MUGS, COST, created=10.0, updated=20.0)
DECLINED = Order("o-2", "CANCELLED", "CARD_DECLINED", MUGS, COST, created=10.0, updated=20.0)
OPEN = Order("o-3", "RESERVED", "", MUGS, COST, created=990.0, updated=990.0)


def events(source: str, *told: tuple[str, str, str], first: int = 1) -> Feed:
    """A feed of (event type, aggregate, order)."""
    counts: dict[str, int] = {}
    made = []
    for position, (event_type, aggregate, order_id) in enumerate(told, first):
        counts[aggregate] = counts.get(aggregate, 0) + 1
        made.append(
            Event(
                position=position,
                event_id=f"e-{source}-{position}",
                event_type=event_type,
                aggregate_id=aggregate,
                order_id=order_id,
                sequence=counts[aggregate],
                occurred=10.0 + position,
            )
        )
    return Feed(source, made)


ORDERS = events(
    "orders",
    ("OrderCreated", "o-1", "o-1"),
    ("OrderConfirmed", "o-1", "o-1"),
    ("OrderCreated", "o-2", "o-2"),
    ("OrderCancelled", "o-2", "o-2"),
    ("OrderCreated", "o-3", "o-3"),
)
PAYMENTS = events("payments", ("PaymentCompleted", "p-1", "o-1"), ("PaymentDeclined", "p-2", "o-2"))
INVENTORY = events(
    "inventory",
    ("StockReserved", "r-1", "o-1"),
    ("StockReserved", "r-2", "o-2"),
    ("StockReleased", "r-2", "o-2"),
    ("StockReserved", "r-3", "o-3"),
)
WELL = Books(
    before={order.order_id: order for order in (BOUGHT, DECLINED, OPEN)},
    after={order.order_id: order for order in (BOUGHT, DECLINED, OPEN)},
    payments=(
        Payment("p-1", "o-1", "CAPTURED", COST, 12.0),
        Payment("p-2", "o-2", "DECLINED", COST, 12.0),
    ),
    reservations=(
        Reservation("r-1", "o-1", "COMMITTED", MUGS, 11.0),
        Reservation("r-2", "o-2", "RELEASED", MUGS, 11.0),
        Reservation("r-3", "o-3", "HELD", MUGS, 991.0),
    ),
    products=(Product("mug", available=96, reserved=2, sold=2),),
    notifications=(
        Notification("n-1", "o-1", "OrderCreated"),
        Notification("n-2", "o-1", "OrderConfirmed"),
        Notification("n-3", "o-2", "OrderCreated"),
        Notification("n-4", "o-2", "OrderCancelled"),
    ),
    feeds=(ORDERS, PAYMENTS, INVENTORY),
    now=NOW,
    imported={"mug": 100},
)


def wrong(**changed: Any) -> list[str]:
    return [finding.text for finding in audit(replace(WELL, **changed)).wrong]


def first(things: Sequence[Any], **changed: Any) -> list[Any]:
    """*things* with the first of them changed."""
    return [replace(things[0], **changed), *things[1:]]


def test_books_that_agree_have_nothing_wrong_and_say_what_is_in_flight() -> None:
    report = audit(WELL)

    assert report.wrong == []
    assert [finding.text for finding in report.in_flight] == ["order o-3 is RESERVED since 10 s"]
    assert not report.settled
    assert report.imported == {"mug": 100}
    assert report.figures["captured"] == "29.00 USD"


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        (
            {"payments": first(WELL.payments, status="REFUNDED")},
            "order o-1 is CONFIRMED over 29.00 USD and not paid: payment p-1 is REFUNDED",
        ),
        (
            {"payments": WELL.payments[1:]},
            "order o-1 is CONFIRMED over 29.00 USD and not paid: there is no payment",
        ),
        (
            {"payments": first(WELL.payments, amount=("USD", 28_500_000_000))},
            "order o-1 cost 29.00 USD, payment p-1 took 28.50 USD",
        ),
        (
            {"payments": (*WELL.payments, Payment("p-9", "o-1", "CAPTURED", COST, 12.0))},
            "order o-1 is paid 2 times: p-1, p-9",
        ),
        (
            {"payments": (*WELL.payments, Payment("p-9", "o-2", "CAPTURED", COST, 12.0))},
            "order o-2 is CANCELLED, and payment p-9 took 29.00 USD for it",
        ),
        (
            {"payments": (*WELL.payments, Payment("p-9", "nobody", "CAPTURED", COST, 12.0))},
            "payment p-9 took 29.00 USD for order 'nobody', which does not exist",
        ),
        (
            {"reservations": first(WELL.reservations, status="HELD")},
            "order o-1 is CONFIRMED, and reservation r-1 is HELD",
        ),
        (
            {"reservations": WELL.reservations[1:]},
            "order o-1 is CONFIRMED, and its stock is sold 0 times: never kept",
        ),
        (
            {"reservations": first(WELL.reservations, items={"mug": 3})},
            "order o-1 is CONFIRMED over 2 mug, and reservation r-1 is over 3 mug",
        ),
        (
            {"reservations": (*WELL.reservations, Reservation("r-9", "x", "HELD", MUGS, 11.0))},
            "reservation r-9 is HELD for order 'x', which does not exist",
        ),
        (
            {"products": (Product("mug", available=93, reserved=2, sold=5),)},
            "product mug: 5 are sold, confirmed orders bought 2 and orders in flight want 2",
        ),
        (
            {"products": (Product("mug", available=95, reserved=3, sold=2),)},
            "product mug: 3 are reserved, orders in flight want 2",
        ),
        (
            {"products": (Product("mug", available=95, reserved=2, sold=2),)},
            "product mug: 100 came in, and 95 available, 2 reserved and 2 sold are 99",
        ),
        (
            {"notifications": WELL.notifications[1:]},
            "order o-1 is CONFIRMED, and no notification tells of OrderCreated",
        ),
        (
            {"notifications": (*WELL.notifications, Notification("n-9", "o-1", "OrderCreated"))},
            "order o-1 is CONFIRMED, and 2 notifications tell of OrderCreated: n-1, n-9",
        ),
        (
            {"notifications": (*WELL.notifications, Notification("n-9", "o-2", "OrderConfirmed"))},
            "order o-2 is CANCELLED, and notification n-9 tells of OrderConfirmed",
        ),
        (
            {"notifications": (*WELL.notifications, Notification("n-9", "x", "OrderCreated"))},
            "notification n-9 tells of order 'x', which does not exist",
        ),
        (
            {"feeds": (Feed("orders", first(ORDERS.events, sequence=0)), PAYMENTS, INVENTORY)},
            "event e-orders-2 of o-1 in the feed of orders is number 2 and follows number 0",
        ),
        (
            {"feeds": (ORDERS, Feed("payments", PAYMENTS.events[:1]), INVENTORY)},
            (
                "payment p-2 of order o-2 is DECLINED, and the feed of payments tells nothing of"
                " it, not PaymentDeclined"
            ),
        ),
        (
            {
                "after": {**WELL.after, "o-3": replace(OPEN, updated=900.0)},
            },
            "order o-3 is RESERVED since 100 s",
        ),
        (
            {"after": {"o-2": DECLINED, "o-1": BOUGHT}},
            "order o-3 was there and is gone",
        ),
    ],
)
def test_a_disagreement_is_found_and_named(changed: dict[str, Any], found: str) -> None:
    assert found in wrong(**changed)


def test_a_compensation_that_had_its_effect_twice_is_found_by_its_events() -> None:
    twice = events(
        "inventory",
        ("StockReserved", "r-1", "o-1"),
        ("StockReserved", "r-2", "o-2"),
        ("StockReleased", "r-2", "o-2"),
        ("StockReleased", "r-2", "o-2"),
    )

    (text,) = wrong(feeds=(ORDERS, PAYMENTS, twice))

    assert text == (
        "reservation r-2 of order o-2 is RELEASED, and the feed of inventory tells StockReserved,"
        " StockReleased, StockReleased of it, not StockReserved, StockReleased"
    )


def test_what_happened_while_the_books_were_read_is_in_flight_and_not_wrong() -> None:
    """An order placed, paid and sold between the first question and the last."""
    late = Order("o-4", "CONFIRMED", "", MUGS, COST, created=999.0, updated=999.5)
    report = audit(
        replace(
            WELL,
            after={**WELL.after, "o-4": late},
            payments=(*WELL.payments, Payment("p-4", "o-4", "CAPTURED", COST, 999.2)),
            reservations=(*WELL.reservations, Reservation("r-4", "o-4", "HELD", MUGS, 999.1)),
            products=(Product("mug", available=94, reserved=2, sold=4),),
            notifications=(*WELL.notifications, Notification("n-5", "o-4", "OrderCreated")),
        )
    )

    assert report.wrong == []
    assert "order o-4 is CONFIRMED since 0 s" in [finding.text for finding in report.in_flight]


def test_a_notification_has_some_seconds_to_be_written() -> None:
    fresh = replace(BOUGHT, updated=NOW - 1.0)
    orders = {**WELL.before, "o-1": fresh}
    report = audit(replace(WELL, before=orders, after=orders, notifications=WELL.notifications[2:]))

    assert report.wrong == []
    assert "no notification tells of OrderConfirmed" in report.in_flight[-1].text


def test_what_is_older_than_a_feed_is_not_looked_for_in_it() -> None:
    purged = events("payments", ("PaymentDeclined", "p-7", "o-7"), first=500)

    assert wrong(feeds=(ORDERS, purged, INVENTORY)) == []
