"""PaymentService over a socket: every rule of charging and refunding, and what is told of it."""

import asyncio

import pytest
from google.type.money_pb2 import Money
from shop.payments.v1 import (
    PAYMENT_STATUS_CAPTURED,
    PAYMENT_STATUS_DECLINED,
    PAYMENT_STATUS_REFUNDED,
    ChargePaymentRequest,
    GetOrderPaymentRequest,
    GetPaymentRequest,
    Payment,
    RefundPaymentRequest,
)

from tests.services.shopping import refused

FIVE = Money(currency_code="USD", units=5)


def charging(card="card", order="o-1", name="", key="", amount=FIVE) -> ChargePaymentRequest:
    payment = Payment(payment_id=name, order_id=order, amount=amount, payment_method=card)
    return ChargePaymentRequest(payment=payment, request_id=key)


@pytest.fixture
async def payments(closed_shop):
    async with closed_shop.payments() as stub:
        yield stub


async def test_a_charge_is_captured_and_found_again(payments):
    charged = await payments.ChargePayment(charging())

    assert charged.status == PAYMENT_STATUS_CAPTURED
    assert charged.amount == FIVE
    assert charged.create_time.seconds > 0
    assert await payments.GetPayment(GetPaymentRequest(payment_id=charged.payment_id)) == charged
    assert await payments.GetOrderPayment(GetOrderPaymentRequest(order_id="o-1")) == charged


async def test_a_declined_card_is_refused_and_its_payment_kept(payments):
    said = await refused(payments.ChargePayment(charging("card-declined")))

    kept = await payments.GetOrderPayment(GetOrderPaymentRequest(order_id="o-1"))
    assert said == ("FAILED_PRECONDITION", "CARD_DECLINED", [])
    assert kept.status == PAYMENT_STATUS_DECLINED


async def test_a_slow_card_takes_its_time_and_is_captured(payments):
    began = asyncio.get_running_loop().time()

    charged = await payments.ChargePayment(charging("card-slow"))

    assert charged.status == PAYMENT_STATUS_CAPTURED
    assert asyncio.get_running_loop().time() - began >= 0.2


@pytest.mark.parametrize("named", [{"key": "k-1"}, {"name": "p-1"}, {"key": "k-1", "name": "p-1"}])
async def test_the_same_charge_counts_once(payments, named):
    first = await payments.ChargePayment(charging(**named))
    again = await payments.ChargePayment(charging(**named))

    assert again == first


async def test_a_charge_declined_once_is_declined_again_under_its_key(payments):
    asked = charging("card-declined", key="k-1")

    assert await refused(payments.ChargePayment(asked)) == await refused(
        payments.ChargePayment(asked)
    )


async def test_another_charge_under_the_same_id_is_refused(payments):
    await payments.ChargePayment(charging(name="p-1"))

    said = await refused(payments.ChargePayment(charging(name="p-1", order="o-2")))

    assert said == ("ALREADY_EXISTS", "PAYMENT_EXISTS", [])


async def test_a_refund_gives_the_money_back_once(payments):
    charged = await payments.ChargePayment(charging())
    request = RefundPaymentRequest(payment_id=charged.payment_id)

    refunded = await payments.RefundPayment(request)

    assert refunded.status == PAYMENT_STATUS_REFUNDED
    assert refunded.amount == FIVE
    assert await payments.RefundPayment(request) == refunded


async def test_a_charge_that_comes_after_its_refund_moves_no_money(payments):
    never = await payments.RefundPayment(RefundPaymentRequest(payment_id="p-1"))

    said = await refused(payments.ChargePayment(charging(name="p-1")))

    assert never.status == PAYMENT_STATUS_REFUNDED
    assert said == ("FAILED_PRECONDITION", "PAYMENT_REFUNDED", [])
    assert (
        await payments.GetPayment(GetPaymentRequest(payment_id="p-1"))
    ).status == PAYMENT_STATUS_REFUNDED


async def test_a_slow_charge_that_is_refunded_meanwhile_moves_no_money(payments):
    slow = asyncio.ensure_future(payments.ChargePayment(charging("card-slow", name="p-1")))
    await asyncio.sleep(0)

    await payments.RefundPayment(RefundPaymentRequest(payment_id="p-1"))

    assert (await refused(slow))[1] == "PAYMENT_REFUNDED"


async def test_a_declined_payment_is_not_refunded(payments):
    await refused(payments.ChargePayment(charging("card-declined", name="p-1")))

    kept = await payments.RefundPayment(RefundPaymentRequest(payment_id="p-1"))

    assert kept.status == PAYMENT_STATUS_DECLINED


@pytest.mark.parametrize(
    ("call", "request_"),
    [
        ("GetPayment", GetPaymentRequest(payment_id="none")),
        ("GetOrderPayment", GetOrderPaymentRequest(order_id="none")),
    ],
)
async def test_a_payment_that_is_not_there_is_not_found(payments, call, request_):
    said = await refused(getattr(payments, call)(request_))

    assert said == ("NOT_FOUND", "PAYMENT_NOT_FOUND", [])


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ChargePaymentRequest(), "payment"),
        (charging(order=""), "payment.order_id"),
        (charging(amount=None), "payment.amount"),
        (charging(amount=Money(currency_code="usd", units=1)), "payment.amount"),
        (charging(amount=Money(currency_code="USD", units=-1)), "payment.amount"),
        (charging(amount=Money(currency_code="USD", nanos=10**9)), "payment.amount"),
        (charging(key="k" * 256), "request_id"),
    ],
)
async def test_a_malformed_charge_names_the_field(payments, request_, field):
    code, _, fields = await refused(payments.ChargePayment(request_))

    assert (code, fields) == ("INVALID_ARGUMENT", [field])
