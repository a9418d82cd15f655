"""The PaymentService of the contract on top of the handlers: translation, and nothing else."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4, uuid5

from google.protobuf.timestamp_pb2 import Timestamp
from google.type import money_pb2
from mesh.server.idempotency import current_key
from shop.payments.v1 import (
    ChargePaymentRequest,
    GetOrderPaymentRequest,
    GetPaymentRequest,
    Payment,
    PaymentServiceServicer,
    PaymentStatus,
    RefundPaymentRequest,
)

from mesh.errors import Code
from services.answering import Table, answering
from services.payments import domain
from services.payments.handlers import Payments
from services.tracing import traceparent

ERRORS: Table = {
    domain.CardDeclined: (Code.FAILED_PRECONDITION, "CARD_DECLINED"),
    domain.PaymentRefunded: (Code.FAILED_PRECONDITION, "PAYMENT_REFUNDED"),
    domain.PaymentExists: (Code.ALREADY_EXISTS, "PAYMENT_EXISTS"),
    domain.PaymentNotFound: (Code.NOT_FOUND, "PAYMENT_NOT_FOUND"),
}

# Payments whose caller chose no id get it from the idempotency key: the same key, the same payment.
IDS = UUID("5f0c1f6e-6a39-5d0c-9e39-8d1f0a6b7c01")


class PaymentServicer(PaymentServiceServicer):
    """Answers PaymentService from *payments*."""

    def __init__(self, payments: Payments) -> None:
        self._payments = payments

    async def ChargePayment(self, request: ChargePaymentRequest, context: Any) -> Payment:
        key = current_key() or request.request_id
        asked = request.payment
        wanted = domain.Payment(
            payment_id=asked.payment_id or str(uuid5(IDS, key) if key else uuid4()),
            order_id=asked.order_id,
            amount=domain.Money(asked.amount.currency_code, asked.amount.units, asked.amount.nanos),
            method=asked.payment_method,
            status=domain.Status.CAPTURED,
            created=0,
        )
        with answering(ERRORS):
            return to_message(await self._payments.charge(wanted, traceparent()))

    async def RefundPayment(self, request: RefundPaymentRequest, context: Any) -> Payment:
        with answering(ERRORS):
            return to_message(await self._payments.refund(request.payment_id, traceparent()))

    async def GetPayment(self, request: GetPaymentRequest, context: Any) -> Payment:
        with answering(ERRORS):
            return to_message(await self._payments.get(request.payment_id))

    async def GetOrderPayment(self, request: GetOrderPaymentRequest, context: Any) -> Payment:
        with answering(ERRORS):
            return to_message(await self._payments.of_order(request.order_id))


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
