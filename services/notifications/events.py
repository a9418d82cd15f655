"""What orders tell, as notifications: one for each event, the same however often it comes."""

from __future__ import annotations

from uuid import UUID, uuid5

from shop.events.v1 import Event

from services.notifications import domain
from services.notifications.domain import Notification

IDS = UUID("91d0b3a7-6c58-5e1f-8b24-e07d5a3c9f05")


def notification(event_id: str, event_type: str, payload: bytes, now: int) -> Notification | None:
    """The notification for an event of an order; None for an event that nobody is told of."""
    event = Event.FromString(payload)
    match event.WhichOneof("data"):
        case "order_created":
            about = event.order_created
            text = domain.created(about.order_id)
            ids = (about.customer_id, about.order_id)
        case "order_confirmed":
            done = event.order_confirmed
            text = domain.confirmed(done.order_id)
            ids = (done.customer_id, done.order_id)
        case "order_cancelled":
            lost = event.order_cancelled
            text = domain.cancelled(lost.order_id, lost.cancel_reason)
            ids = (lost.customer_id, lost.order_id)
        case _:
            return None
    return Notification(
        notification_id=str(uuid5(IDS, event_id)),
        customer_id=ids[0],
        order_id=ids[1],
        kind=event_type,
        text=text,
        created=now,
    )
