"""The NotificationService of the contract on top of the handlers: translation, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from shop.notifications.v1 import (
    ListNotificationsRequest,
    ListNotificationsResponse,
    Notification,
    NotificationServiceServicer,
)

from mesh.errors import Code
from services.access import confined
from services.answering import Table, answering
from services.notifications import domain
from services.notifications.handlers import Notifications, Wanted
from services.paging import page

ERRORS: Table = {
    domain.UnknownNotification: (Code.NOT_FOUND, "NOTIFICATION_NOT_FOUND"),
    domain.TooManyCustomers: (Code.INVALID_ARGUMENT, "TOO_MANY_CUSTOMERS"),
}


class NotificationServicer(NotificationServiceServicer):
    """Answers NotificationService from *notifications*."""

    def __init__(self, notifications: Notifications) -> None:
        self._notifications = notifications

    async def ListNotifications(
        self, request: ListNotificationsRequest, context: Any
    ) -> ListNotificationsResponse:
        customer_id = confined(request.customer_id)
        asked = page(request.page_size, request.page_token, key=(int,), filters=customer_id)
        before = int(asked.after[0]) if asked.after else None
        found = await self._notifications.page(customer_id, before, asked.size + 1)
        shown = found[: asked.size]
        more = len(found) > asked.size
        return ListNotificationsResponse(
            notifications=[to_message(each) for each in shown],
            next_page_token=asked.next_token((shown[-1].position,)) if more else "",
        )

    async def Subscribe(self, request_iterator: Any, context: Any) -> AsyncIterator[Notification]:
        async def wanted() -> AsyncIterator[Wanted]:
            async for request in request_iterator:
                yield Wanted(confined(request.customer_id), request.after_notification_id)

        async def heard() -> None:
            await context.send_initial_metadata(())

        with answering(ERRORS):
            async with aclosing(self._notifications.subscribe(wanted(), heard)) as sent:
                async for each in sent:
                    yield to_message(each)


def to_message(notification: domain.Notification) -> Notification:
    created = Timestamp()
    created.FromNanoseconds(notification.created)
    return Notification(
        notification_id=notification.notification_id,
        customer_id=notification.customer_id,
        order_id=notification.order_id,
        kind=notification.kind,
        text=notification.text,
        create_time=created,
    )
