"""The PaymentService of the contract on top of the handlers: translation, and nothing else."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from google.protobuf.timestamp_pb2 import Timestamp
from google.type import money_pb2
from shop.payments.v1 import (
    ChargePaymentRequest,
    GetOrderPaymentRequest,
    GetPaymentRequest,
    Payment,
    PaymentServiceServicer,
    PaymentStatus,
    RefundPaymentRequest,
)

from mesh.errors import Code, StatusError
from mesh.server.idempotency import in_one_transaction, keep
from mesh.store import Transaction
from services.access import is_theirs, made_for
from services.answering import DOMAIN, Table, answering
from services.payments import domain
from services.payments.handlers import Payments
from services.tracing import traceparent

ERRORS: Table = {
    domain.PaymentRefunded: (Code.FAILED_PRECONDITION, "PAYMENT_REFUNDED"),
    domain.PaymentExists: (Code.ALREADY_EXISTS, "PAYMENT_EXISTS"),
    domain.PaymentNotFound: (Code.NOT_FOUND, "PAYMENT_NOT_FOUND"),
}


class PaymentServicer(PaymentServiceServicer):
    """Answers PaymentService from *payments*."""

    def __init__(self, payments: Payments) -> None:
        self._payments = payments

    async def ChargePayment(self, request: ChargePaymentRequest, context: Any) -> Payment:
        asked = request.payment
        wanted = domain.Payment(
            payment_id=asked.payment_id or str(uuid4()),
            order_id=asked.order_id,
            amount=domain.Money(asked.amount.currency_code, asked.amount.units, asked.amount.nanos),
            method=asked.payment_method,
            status=domain.Status.CAPTURED,
            created=0,
            owner=made_for(context),
        )
        with answering(ERRORS):
            payment = await self._payments.charge(wanted, _keep, traceparent())
        if payment.status is domain.Status.DECLINED:
            raise _declined(payment)
        return to_message(payment)

    @in_one_transaction
    async def RefundPayment(self, request: RefundPaymentRequest, context: Any) -> Payment:
        with answering(ERRORS):
            return to_message(await self._payments.refund(request.payment_id, _keep, traceparent()))

    async def GetPayment(self, request: GetPaymentRequest, context: Any) -> Payment:
        with answering(ERRORS):
            return to_message(_theirs(await self._payments.get(request.payment_id)))

    async def GetOrderPayment(self, request: GetOrderPaymentRequest, context: Any) -> Payment:
        with answering(ERRORS):
            return to_message(_theirs(await self._payments.of_order(request.order_id)))


def _theirs(payment: domain.Payment) -> domain.Payment:
    """The payment, unless it is another customer's: for who asks there is none then."""
    if not is_theirs(payment.owner):
        raise domain.PaymentNotFound("there is no such payment")
    return payment


async def _keep(tx: Transaction, payment: domain.Payment) -> None:
    declined = payment.status is domain.Status.DECLINED
    await keep(tx, _declined(payment) if declined else to_message(payment))


def _declined(payment: domain.Payment) -> StatusError:
    return StatusError(
        Code.FAILED_PRECONDITION,
        "the card was declined",  # never which one: error texts end up in logs
        reason="CARD_DECLINED",
        domain=DOMAIN,
        metadata={"payment_id": payment.payment_id},
    )


def to_message(payment: domain.Payment) -> Payment:
    created = Timestamp()
    created.FromNanoseconds(payment.created)
    # A payment that never came has no amount.
    amount = payment.amount
    money = money_pb2.Money(currency_code=amount.currency, units=amount.units, nanos=amount.nanos)
    return Payment(
        payment_id=payment.payment_id,
        order_id=payment.order_id,
        amount=money if amount.currency else None,
        payment_method=payment.method,
        status=PaymentStatus.Value(f"PAYMENT_STATUS_{payment.status.value}"),
        create_time=created,
    )
