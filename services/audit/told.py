"""
Events: everything that happened was told, once and in order, and every order's customer heard it.

    feed           each aggregate's events are numbered without a gap
    order          OrderCreated, then OrderConfirmed or OrderCancelled
    payment        PaymentCompleted, then PaymentRefunded if it is; or PaymentDeclined
    reservation    StockReserved, then StockReleased if it is
    notifications  one for each event of a finished order

Feeds forget old events, and what is older than a feed is not looked for in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from services.audit.domain import Books, Event, Feed, Finding, Order, Subject

# Seconds after which a notification ought to have been written.
DELIVERED_SECONDS = 15.0

ORDER = {
    "CONFIRMED": ("OrderCreated", "OrderConfirmed"),
    "CANCELLED": ("OrderCreated", "OrderCancelled"),
}
PAYMENT = {
    "CAPTURED": ("PaymentCompleted",),
    "DECLINED": ("PaymentDeclined",),
    "REFUNDED": ("PaymentCompleted", "PaymentRefunded"),
}
RESERVATION = {
    "HELD": ("StockReserved",),
    "COMMITTED": ("StockReserved",),
    "RELEASED": ("StockReserved", "StockReleased"),
}


@dataclass(frozen=True, slots=True)
class _Thing:
    """Something whose events must be `told`, all of them and no others, if the feed is so old."""

    name: str
    text: str
    created: float
    told: tuple[str, ...]


def told(books: Books) -> Iterator[Finding]:
    """What does not agree between what is and what was told."""
    things = {
        "orders": [
            _Thing(
                each.order_id,
                f"order {each.order_id} is {each.status}",
                each.created,
                ORDER[each.status],
            )
            for each in books.finished()
        ],
        # A payment or reservation of no order was never made, or is another check's finding.
        "payments": [
            _Thing(
                each.payment_id,
                f"payment {each.payment_id} of order {each.order_id} is {each.status}",
                each.created,
                PAYMENT[each.status],
            )
            for each in books.payments
            if books.is_finished(each.order_id)
        ],
        "inventory": [
            _Thing(
                each.reservation_id,
                f"reservation {each.reservation_id} of order {each.order_id} is {each.status}",
                each.created,
                RESERVATION[each.status],
            )
            for each in books.reservations
            if books.is_finished(each.order_id)
        ],
    }
    for feed in books.feeds:
        yield from _numbered(feed)
        yield from _told_once(feed, things[feed.source])
    yield from _heard(books)


def _told_once(feed: Feed, things: Sequence[_Thing]) -> Iterator[Finding]:
    events = feed.by_aggregate()
    for thing in things:
        seen = tuple(event.event_type for event in events.get(thing.name, ()))
        if seen != thing.told and feed.covers(thing.created):
            yield _wrong(
                f"{thing.text}, and the feed of {feed.source} tells"
                f" {', '.join(seen) or 'nothing'} of it, not {', '.join(thing.told)}"
            )


def _numbered(feed: Feed) -> Iterator[Finding]:
    names: dict[str, Event] = {}
    for event in feed.events:
        if names.setdefault(event.event_id, event) is not event:
            yield _wrong(f"event {event.event_id} is in the feed of {feed.source} twice")
    for name, events in feed.by_aggregate().items():
        for one, next_one in pairwise(events):
            if next_one.sequence != one.sequence + 1:
                yield _wrong(
                    f"event {next_one.event_id} of {name} in the feed of {feed.source}"
                    f" is number {next_one.sequence} and follows number {one.sequence}"
                )


def _heard(books: Books) -> Iterator[Finding]:
    heard: dict[str, dict[str, list[str]]] = {}
    for each in books.notifications:
        if each.order_id not in books.after:
            yield _wrong(
                f"notification {each.notification_id} tells of order {each.order_id!r},"
                " which does not exist"
            )
        kinds = heard.setdefault(each.order_id, {})
        kinds.setdefault(each.kind, []).append(each.notification_id)
    for order in books.finished():
        yield from _of_order(order, heard.get(order.order_id, {}), books.now)


def _of_order(order: Order, kinds: Mapping[str, list[str]], now: float) -> Iterator[Finding]:
    name = f"order {order.order_id} is {order.status}"
    expected = ORDER[order.status]
    for kind, ids in kinds.items():
        if kind not in expected:
            yield _wrong(f"{name}, and notification {ids[0]} tells of {kind}")
        elif len(ids) > 1:
            yield _wrong(f"{name}, and {len(ids)} notifications tell of {kind}: {', '.join(ids)}")
    late = now - order.updated > DELIVERED_SECONDS
    for kind in expected:
        if kind not in kinds:
            text = f"{name}, and no notification tells of {kind}"
            yield Finding(Subject.EVENT, text, waiting=not late)


def _wrong(what: str) -> Finding:
    return Finding(Subject.EVENT, what)
