"""
What a payment is, and what charging and refunding make of it.

                charge accepted            refund
    (nothing) ------------------> CAPTURED ------> REFUNDED
        |       charge declined                       ^
        +-----------------------> DECLINED            |
        +---------------------------------------------+
                refund of what was never seen

A REFUNDED payment is refused when it is charged, so a charge that arrives after its refund moves no
money.  Each function answers a Change and writes nothing; a Change without a fact changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum


class Status(Enum):
    """What became of a payment."""

    CAPTURED = "CAPTURED"
    DECLINED = "DECLINED"
    REFUNDED = "REFUNDED"


class Fact(Enum):
    """What happened to a payment, as others are told."""

    COMPLETED = "PaymentCompleted"
    DECLINED = "PaymentDeclined"
    REFUNDED = "PaymentRefunded"


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in whole `units` and billionths (`nanos`) of a currency."""

    currency: str
    units: int
    nanos: int = 0


@dataclass(frozen=True, slots=True)
class Payment:
    """Money taken, or not, for an order; `created` is nanoseconds since 1970."""

    payment_id: str
    order_id: str
    amount: Money
    method: str
    status: Status
    created: int
    # The customer for whose order it is; "" for nobody who is known.
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """The payment as it is now; `fact` is None when it was so before."""

    payment: Payment
    fact: Fact | None = None
    # A payment that stands in for one that never came: kept, and nobody is told.
    tombstone: bool = False


class PaymentRefunded(Exception):
    """The payment was given back, perhaps before it was ever charged."""


class PaymentExists(Exception):
    """Another payment has this id."""


class PaymentNotFound(Exception):
    """No such payment."""


def charge(wanted: Payment, known: Payment | None) -> Change:
    """Charge *wanted*, whose status is the card network's word; *known* has the same id."""
    if known is None:
        declined = wanted.status is Status.DECLINED
        return Change(wanted, Fact.DECLINED if declined else Fact.COMPLETED)
    if known.status is Status.REFUNDED:
        raise PaymentRefunded(f"payment {known.payment_id} was refunded")
    asked = (wanted.order_id, wanted.amount, wanted.method)
    if asked != (known.order_id, known.amount, known.method):
        raise PaymentExists(f"payment {known.payment_id} exists and is not this one")
    return Change(known)


def refund(payment_id: str, known: Payment | None, now: int) -> Change:
    """Give a payment back; of one never seen, make sure that it never will be charged."""
    if known is None:
        never = Payment(payment_id, "", Money("", 0), "", Status.REFUNDED, now)
        return Change(never, tombstone=True)
    if known.status is Status.CAPTURED:
        return Change(replace(known, status=Status.REFUNDED), Fact.REFUNDED)
    return Change(known)
