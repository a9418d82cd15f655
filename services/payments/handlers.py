"""
What the payment service does, one transaction each: the row and the event about it go together.

The card network is asked before the transaction; a payment that is known already is not asked
about again.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

from mesh.events.outbox import Outbox
from mesh.store import Database, Transaction
from services.payments import store
from services.payments.domain import (
    Change,
    Payment,
    PaymentNotFound,
    Status,
    charge,
    refund,
)
from services.payments.events import message

# Stores an answer in the transaction that made it true.
Keep = Callable[[Transaction, Payment], Awaitable[None]]


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

    async def charge(self, wanted: Payment, keep: Keep, traceparent: str = "") -> Payment:
        """
        Charge *wanted*, once however often it is asked; a declined card answers DECLINED.

        `keep` stores the answer with the payment, so that a crash leaves both or none.
        """

        async def work(tx: Transaction) -> Payment:
            known = await store.load(tx, asked.payment_id)
            payment = await self._write(tx, charge(asked, known), traceparent)
            await keep(tx, payment)
            return payment

        accepted = True
        if await self._find(wanted.payment_id) is None:
            accepted = await self._cards.authorise(wanted.method)
        status = Status.CAPTURED if accepted else Status.DECLINED
        asked = replace(wanted, status=status, created=self._now())
        return await self._database.transaction(work)

    async def refund(self, payment_id: str, keep: Keep, traceparent: str = "") -> Payment:
        """Give a payment back, or see to it that it will never be charged."""
        now = self._now()

        async def work(tx: Transaction) -> Payment:
            known = await store.load(tx, payment_id)
            refunded = await self._write(tx, refund(payment_id, known, now), traceparent)
            await keep(tx, refunded)
            return refunded

        return await self._database.transaction(work)

    async def get(self, payment_id: str) -> Payment:
        payment = await self._find(payment_id)
        if payment is None:
            raise PaymentNotFound("there is no such payment")
        return payment

    async def of_order(self, order_id: str) -> Payment:
        """The newest payment of an order."""
        payment = await self._database.read(lambda tx: store.load_of_order(tx, order_id))
        if payment is None:
            raise PaymentNotFound("there is no such payment")
        return payment

    async def _find(self, payment_id: str) -> Payment | None:
        return await self._database.read(lambda tx: store.load(tx, payment_id))

    async def _write(self, tx: Transaction, change: Change, traceparent: str) -> Payment:
        if change.fact is not None or change.tombstone:
            store.save(tx, change.payment)
        if change.fact is not None:
            await self._outbox.append(tx, message(change.fact, change.payment, traceparent))
        return change.payment
