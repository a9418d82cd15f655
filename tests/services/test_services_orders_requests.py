"""OrderService over a socket: updates, lists, and every request that makes no sense."""

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from shop.orders.v1 import (
    ORDER_STATUS_CANCELLED,
    ORDER_STATUS_PAID,
    CancelOrderRequest,
    CreateOrderRequest,
    GetOrderRequest,
    ListOrdersRequest,
    Order,
    UpdateOrderRequest,
)

from tests.services.shopping import asking, refused, wanted


@pytest.mark.parametrize(
    ("paths", "note", "address"),
    [
        (None, "new", "new street"),
        (["note"], "new", "old street"),
        (["shipping_address"], "old", "new street"),
        (["note", "shipping_address"], "new", "new street"),
        (["*"], "new", "new street"),
        (["order_id"], "old", "old street"),
    ],
)
async def test_an_update_changes_what_the_mask_names(shop, paths, note, address):
    sent = wanted(("none", 1))
    sent.note, sent.shipping_address = "old", "old street"
    created = await shop.orders.CreateOrder(CreateOrderRequest(order=sent, wait=True))
    order = Order(order_id=created.order_id, note="new", shipping_address="new street")
    mask = None if paths is None else FieldMask(paths=paths)

    updated = await shop.orders.UpdateOrder(UpdateOrderRequest(order=order, update_mask=mask))

    assert (updated.note, updated.shipping_address) == (note, address)
    assert await shop.orders.GetOrder(GetOrderRequest(order_id=created.order_id)) == updated


async def test_a_named_field_without_a_value_is_emptied(shop):
    sent = wanted(("none", 1))
    sent.note = "old"
    created = await shop.orders.CreateOrder(CreateOrderRequest(order=sent, wait=True))

    updated = await shop.orders.UpdateOrder(
        UpdateOrderRequest(
            order=Order(order_id=created.order_id), update_mask=FieldMask(paths=["note"])
        )
    )

    assert updated.note == ""


@pytest.mark.parametrize("path", ["status", "total", "items", "items.unit_price", "nonsense"])
async def test_a_mask_that_names_what_is_not_the_customers_is_refused(shop, path):
    created = await shop.orders.CreateOrder(asking(("none", 1)))
    request = UpdateOrderRequest(
        order=Order(order_id=created.order_id), update_mask=FieldMask(paths=[path])
    )

    said = await refused(shop.orders.UpdateOrder(request))

    assert said == ("INVALID_ARGUMENT", "INVALID_UPDATE", ["update_mask"])


async def test_orders_are_listed_newest_first_by_customer_and_status_in_stable_pages(shop):
    made = []
    for number in range(5):
        request = asking(("mug" if number % 2 else "none", 1), customer=f"c-{number % 2}")
        made.append(await shop.orders.CreateOrder(request))
    newest_first = [order.order_id for order in reversed(made)]

    assert await pages(shop, ListOrdersRequest(page_size=2)) == newest_first
    assert await pages(shop, ListOrdersRequest(customer_id="c-1")) == newest_first[1::2]
    cancelled = ListOrdersRequest(page_size=1, status=ORDER_STATUS_CANCELLED)
    assert await pages(shop, cancelled) == newest_first[0::2]
    assert await pages(shop, ListOrdersRequest(status=ORDER_STATUS_PAID)) == []


async def pages(shop, request: ListOrdersRequest) -> list[str]:
    """The ids on all pages; another order comes in between, and must not shift them."""
    ids: list[str] = []
    while True:
        listed = await shop.orders.ListOrders(request)
        ids += [order.order_id for order in listed.orders]
        if not listed.next_page_token:
            return ids
        request.page_token = listed.next_page_token


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ListOrdersRequest(page_token="x"), "page_token"),
        (ListOrdersRequest(page_size=-1), "page_size"),
        (ListOrdersRequest(status=77), "status"),
    ],
)
async def test_a_malformed_list_request_names_the_field(shop, request_, field):
    code, _, fields = await refused(shop.orders.ListOrders(request_))

    assert (code, fields) == ("INVALID_ARGUMENT", [field])


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (CreateOrderRequest(), "order"),
        (CreateOrderRequest(order=wanted()), "order.items"),
        (CreateOrderRequest(order=wanted(("mug", 0))), "order.items[0].quantity"),
        (CreateOrderRequest(order=wanted(("", 1))), "order.items[0].product_id"),
        (CreateOrderRequest(order=wanted(("mug", 1), customer="")), "order.customer_id"),
        (asking(("mug", 1), key="k" * 256), "request_id"),
    ],
)
async def test_a_malformed_order_names_the_field(shop, request_, field):
    code, _, fields = await refused(shop.orders.CreateOrder(request_))

    assert (code, fields) == ("INVALID_ARGUMENT", [field])


async def test_an_order_that_is_not_there_is_not_found(shop):
    for call in (
        shop.orders.GetOrder(GetOrderRequest(order_id="none")),
        shop.orders.CancelOrder(CancelOrderRequest(order_id="none")),
        shop.orders.UpdateOrder(UpdateOrderRequest(order=Order(order_id="none", note="x"))),
    ):
        assert await refused(call) == ("NOT_FOUND", "ORDER_NOT_FOUND", [])
