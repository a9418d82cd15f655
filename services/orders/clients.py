"""
The services that the saga asks: calls of the contract on one side, facts and refusals on the other.

    answered ok                             the step is done
    refused, with a reason in REFUSALS      Refused: the saga turns back, for that reason
    anything else                           CallFailed: perhaps it happened; the runner asks again
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import grpc
from google.type import money_pb2
from shop.inventory.v1 import (
    CommitStockRequest,
    GetProductRequest,
    InventoryServiceStub,
    ReleaseStockRequest,
    Reservation,
    ReserveStockRequest,
)
from shop.payments.v1 import (
    ChargePaymentRequest,
    Payment,
    PaymentServiceStub,
    RefundPaymentRequest,
)

from mesh.errors import CallFailed, Code
from mesh.saga import Refused
from mesh.status import from_error
from services.orders.domain import Order, Reason
from services.orders.money import Money
from services.orders.policies import PATIENT, QUICK

REFUSALS: Mapping[str, Reason] = {
    "CARD_DECLINED": Reason.CARD_DECLINED,
    "OUT_OF_STOCK": Reason.OUT_OF_STOCK,
    "PRODUCT_NOT_FOUND": Reason.PRODUCT_NOT_FOUND,
    # Somebody gave it back by hand, which is how a customer may change their mind.
    "PAYMENT_REFUNDED": Reason.CANCELLED_BY_CUSTOMER,
    "RESERVATION_RELEASED": Reason.CANCELLED_BY_CUSTOMER,
}


class Stock:
    """The inventory, as far as an order needs it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = InventoryServiceStub(channel)

    async def prices(self, order: Order) -> dict[str, Money]:
        """What one of each of the order's products costs, by product id."""
        wanted = sorted({item.product_id for item in order.items})
        with _asking():
            products = await asyncio.gather(
                *(
                    self._stub.GetProduct(GetProductRequest(product_id=each), timeout=QUICK)
                    for each in wanted
                )
            )
        prices = {product.product_id: product.price for product in products}
        if len({price.currency_code for price in prices.values()}) > 1:
            # An order is paid in one currency: there the other products are not for sale.
            raise Refused(Reason.PRODUCT_NOT_FOUND.value)
        return {
            product_id: Money(price.currency_code, price.units, price.nanos)
            for product_id, price in prices.items()
        }

    async def reserve(self, order: Order, reservation_id: str, request_id: str) -> None:
        reservation = Reservation(
            reservation_id=reservation_id,
            order_id=order.order_id,
            items=[
                Reservation.Item(product_id=item.product_id, quantity=item.quantity)
                for item in order.items
            ],
        )
        request = ReserveStockRequest(reservation=reservation, request_id=request_id)
        with _asking():
            await self._stub.ReserveStock(request, timeout=QUICK)

    async def commit(self, reservation_id: str) -> None:
        with _asking():
            await self._stub.CommitStock(
                CommitStockRequest(reservation_id=reservation_id), timeout=QUICK
            )

    async def release(self, reservation_id: str, request_id: str) -> None:
        request = ReleaseStockRequest(reservation_id=reservation_id, request_id=request_id)
        with _asking():
            await self._stub.ReleaseStock(request, timeout=QUICK)


class Till:
    """The payments, as far as an order needs them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = PaymentServiceStub(channel)

    async def charge(self, order: Order, payment_id: str, request_id: str) -> None:
        assert order.total is not None, "an order is charged after its prices are set"
        payment = Payment(
            payment_id=payment_id,
            order_id=order.order_id,
            amount=money_pb2.Money(
                currency_code=order.total.currency,
                units=order.total.units,
                nanos=order.total.nanos,
            ),
            payment_method=order.payment_method,
        )
        request = ChargePaymentRequest(payment=payment, request_id=request_id)
        with _asking():
            await self._stub.ChargePayment(request, timeout=PATIENT)

    async def refund(self, payment_id: str, request_id: str) -> None:
        request = RefundPaymentRequest(payment_id=payment_id, request_id=request_id)
        with _asking():
            await self._stub.RefundPayment(request, timeout=QUICK)


@contextmanager
def _asking() -> Iterator[None]:
    """Errors of a call as the saga knows them."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        reason = REFUSALS.get(from_error(error).reason)
        if reason is not None:
            raise Refused(reason.value) from error
        raise CallFailed(
            Code(error.code().value[0]),
            error.details() or "",
            trailing=tuple(error.trailing_metadata() or ()),
        ) from error
