"""
What the payment service does, one transaction each: the row and the event about it go together.

The card network is asked before the transaction; a payment that is known already is not asked
about again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from mesh.events.outbox import Outbox

from mesh.store import Database, Transaction
from services.payments import store
from services.payments.domain import (
    CardDeclined,
    Change,
    Payment,
    PaymentNotFound,
    Status,
    charge,
    refund,
)
from services.payments.events import message


class Cards(Protocol):
    """Whoever can say whether a card may be charged."""

    async def authorise(self, method: str) -> bool: ...


class Payments:
    """Charges, refunds and finds payments in one database."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        cards: Cards,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._cards = cards
        self._now = now

    async def charge(self, wanted: Payment, traceparent: str = "") -> Payment:
        """Charge *wanted*, once however often it is asked; CardDeclined when the card is."""

        async def work(tx: Transaction) -> Change:
            return await self._keep(
                tx, charge(asked, await store.load(tx, asked.payment_id)), traceparent
            )

        accepted = True
        if await self._find(wanted.payment_id) is None:
            accepted = await self._cards.authorise(wanted.method)
        status = Status.CAPTURED if accepted else Status.DECLINED
        asked = replace(wanted, status=status, created=self._now())
        # The DECLINED payment is committed before the refusal is raised.
        payment = (await self._database.transaction(work)).payment
        if payment.status is Status.DECLINED:
            raise CardDeclined(f"the payment method {payment.method!r} was declined")
        return payment

    async def refund(self, payment_id: str, traceparent: str = "") -> Payment:
        """Give a payment back, or see to it that it will never be charged."""
        now = self._now()

        async def work(tx: Transaction) -> Change:
            return await self._keep(
                tx, refund(payment_id, await store.load(tx, payment_id), now), traceparent
            )

        return (await self._database.transaction(work)).payment

    async def get(self, payment_id: str) -> Payment:
        payment = await self._find(payment_id)
        if payment is None:
            raise PaymentNotFound(f"there is no payment {payment_id!r}")
        return payment

    async def of_order(self, order_id: str) -> Payment:
        """The newest payment of an order."""
        payment = await self._database.read(lambda tx: store.load_of_order(tx, order_id))
        if payment is None:
            raise PaymentNotFound(f"there is no payment of an order {order_id!r}")
        return payment

    async def _find(self, payment_id: str) -> Payment | None:
        return await self._database.read(lambda tx: store.load(tx, payment_id))

    async def _keep(self, tx: Transaction, change: Change, traceparent: str) -> Change:
        if change.fact is not None or change.tombstone:
            await store.save(tx, change.payment)
        if change.fact is not None:
            await self._outbox.append(tx, message(change.fact, change.payment, traceparent))
        return change
