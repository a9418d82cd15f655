"""The shop's own pages on the gateway: what a customer wants to see at one glance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shop.inventory.v1 import GetOrderReservationRequest, InventoryServiceStub
from shop.orders.v1 import GetOrderRequest, OrderServiceStub
from shop.payments.v1 import GetOrderPaymentRequest, PaymentServiceStub

from gateway.compose import Page

if TYPE_CHECKING:
    from gateway import Gateway


def pages(gateway: Gateway) -> None:
    """Add the shop's pages to *gateway*."""
    orders = OrderServiceStub(gateway.channel("orders"))
    payments = PaymentServiceStub(gateway.channel("payments"))
    inventory = InventoryServiceStub(gateway.channel("inventory"))

    @gateway.get("/v1/orders/{order_id}/summary")
    async def summary(page: Page, order_id: str) -> None:
        """An order with its payment and its reservation; what can't be had stands in `missing`."""
        page.need("order", orders.GetOrder(GetOrderRequest(order_id=order_id)))
        page.want("payment", payments.GetOrderPayment(GetOrderPaymentRequest(order_id=order_id)))
        page.want(
            "reservation",
            inventory.GetOrderReservation(GetOrderReservationRequest(order_id=order_id)),
        )
