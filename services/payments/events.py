"""What other services are told of payments: facts of the domain as events of the contract."""

from __future__ import annotations

from google.type.money_pb2 import Money
from shop.events.v1 import Event, PaymentCompleted, PaymentDeclined, PaymentRefunded

from mesh.events.outbox import Message
from services.payments.domain import Fact, Payment

AGGREGATE = "payment"


def message(fact: Fact, payment: Payment, traceparent: str) -> Message:
    """The outbox message that tells of *fact*."""
    return Message(
        event_type=fact.value,
        aggregate=AGGREGATE,
        aggregate_id=payment.payment_id,
        payload=_event(fact, payment).SerializeToString(),
        traceparent=traceparent,
    )


def _event(fact: Fact, payment: Payment) -> Event:
    amount = Money(
        currency_code=payment.amount.currency,
        units=payment.amount.units,
        nanos=payment.amount.nanos,
    )
    about = (payment.payment_id, payment.order_id)
    match fact:
        case Fact.COMPLETED:
            data = PaymentCompleted(payment_id=about[0], order_id=about[1], amount=amount)
            return Event(payment_completed=data)
        case Fact.DECLINED:
            declined = PaymentDeclined(payment_id=about[0], order_id=about[1], amount=amount)
            return Event(payment_declined=declined)
        case Fact.REFUNDED:
            refunded = PaymentRefunded(payment_id=about[0], order_id=about[1], amount=amount)
            return Event(payment_refunded=refunded)
