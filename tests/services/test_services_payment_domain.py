"""Charging and refunding as a table: what is known already decides."""

from dataclasses import replace

import pytest

from services.payments.domain import (
    Change,
    Fact,
    Money,
    Payment,
    PaymentExists,
    PaymentRefunded,
    Status,
    charge,
    refund,
)

CAPTURED = Payment("p-1", "o-1", Money("USD", 5), "card", Status.CAPTURED, 1)
DECLINED = replace(CAPTURED, status=Status.DECLINED)
REFUNDED = replace(CAPTURED, status=Status.REFUNDED)
NEVER = Payment("p-1", "", Money("", 0), "", Status.REFUNDED, 9)
AGAIN = replace(CAPTURED, created=9)


@pytest.mark.parametrize(
    ("wanted", "known", "change"),
    [
        (CAPTURED, None, Change(CAPTURED, Fact.COMPLETED)),
        (DECLINED, None, Change(DECLINED, Fact.DECLINED)),
        (AGAIN, CAPTURED, Change(CAPTURED)),
        (AGAIN, DECLINED, Change(DECLINED)),
    ],
)
def test_a_charge_counts_once(wanted, known, change):
    assert charge(wanted, known) == change


@pytest.mark.parametrize("known", [REFUNDED, NEVER])
def test_a_charge_after_its_refund_is_refused(known):
    with pytest.raises(PaymentRefunded, match="p-1"):
        charge(CAPTURED, known)


@pytest.mark.parametrize(
    "other", [{"order_id": "o-2"}, {"amount": Money("USD", 6)}, {"method": "cash"}]
)
def test_another_charge_under_the_same_id_is_refused(other):
    with pytest.raises(PaymentExists, match="p-1"):
        charge(replace(CAPTURED, **other), CAPTURED)


@pytest.mark.parametrize(
    ("known", "change"),
    [
        (CAPTURED, Change(REFUNDED, Fact.REFUNDED)),
        (REFUNDED, Change(REFUNDED)),
        (DECLINED, Change(DECLINED)),
        (None, Change(NEVER, tombstone=True)),
    ],
)
def test_a_refund_gives_back_what_was_taken_and_only_once(known, change):
    assert refund("p-1", known, 9) == change
