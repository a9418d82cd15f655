"""A customer sees and changes what is theirs and nothing else: by REST and past the gateway."""

from __future__ import annotations

import json

from shop.orders.v1 import (
    GetOrderRequest,
)

from mesh.identity import speaking
from services.audit.auditing import audit
from services.audit.reading import read
from services.audit.service import shop as auditors_shop
from tests.services.shopping import asking, wanted


async def test_a_customer_has_all_that_is_theirs(guarded):
    order = await guarded.buy("ada", note="mine")
    name = order["orderId"]
    _, payment = await guarded.ask("ada", "GET", f"/v1/orders/{name}/payment")
    _, reservation = await guarded.ask("ada", "GET", f"/v1/orders/{name}/reservation")
    answers = [
        await guarded.ask("ada", "GET", f"/v1/orders/{name}"),
        await guarded.ask("ada", "GET", f"/v1/payments/{payment['paymentId']}"),
        await guarded.ask("ada", "GET", f"/v1/reservations/{reservation['reservationId']}"),
        await guarded.ask("ada", "PATCH", f"/v1/orders/{name}", {"note": "changed"}),
        await guarded.ask("ada", "GET", f"/v1/orders/{name}:watch"),
        await guarded.ask("ada", "GET", "/v1/orders"),
        await guarded.ask("ada", "GET", "/v1/products/mug"),
    ]
    status, summary = await guarded.ask("ada", "GET", f"/v1/orders/{name}/summary")

    assert order["status"] == "ORDER_STATUS_CONFIRMED"
    assert [status for status, _ in answers] == [200] * len(answers)
    assert answers[3][1]["note"] == "changed"
    assert [each["orderId"] for each in answers[5][1]["orders"]] == [name]
    assert (status, summary["missing"]) == (200, [])
    assert summary["payment"]["paymentId"] == payment["paymentId"]


async def test_what_is_another_customers_is_not_there(guarded):
    name = (await guarded.buy("ada"))["orderId"]
    _, payment = await guarded.ask("ada", "GET", f"/v1/orders/{name}/payment")
    _, reservation = await guarded.ask("ada", "GET", f"/v1/orders/{name}/reservation")
    none = await guarded.ask("bob", "GET", "/v1/orders/none")

    for method, path, body in (
        ("GET", f"/v1/orders/{name}", None),
        ("PATCH", f"/v1/orders/{name}", {"note": "bob was here"}),
        ("POST", f"/v1/orders/{name}:cancel", {}),
        ("GET", f"/v1/orders/{name}:watch", None),
        ("GET", f"/v1/orders/{name}/summary", None),
        ("GET", f"/v1/orders/{name}/payment", None),
        ("GET", f"/v1/orders/{name}/reservation", None),
        ("GET", f"/v1/payments/{payment['paymentId']}", None),
        ("GET", f"/v1/reservations/{reservation['reservationId']}", None),
    ):
        status, said = await guarded.ask("bob", method, path, body)
        assert status == 404, (method, path, said)
        assert '"ada"' not in json.dumps(said)
    other = await guarded.ask("bob", "GET", f"/v1/orders/{name}")

    # Nothing tells an order that is another's from one that never was.
    assert json.dumps(other[1]).replace(name, "none") == json.dumps(none[1])
    assert (await guarded.ask("ada", "GET", f"/v1/orders/{name}"))[1]["note"] == ""


async def test_lists_hold_only_what_is_ones_own(guarded):
    for who in ("ada", "bob", "bob"):
        await guarded.buy(who)
    orders = [await guarded.ask(who, "GET", "/v1/orders") for who in ("ada", "bob", "eve", "boss")]
    named = await guarded.ask("ada", "GET", "/v1/orders?customer_id=bob")
    told = await guarded.ask("ada", "GET", "/v1/notifications")
    tale = await guarded.ask("ada", "GET", "/v1/notifications?customer_id=bob")
    first = await guarded.ask("bob", "GET", "/v1/orders?page_size=1")
    stolen = await guarded.ask(
        "ada", "GET", f"/v1/orders?page_size=1&page_token={first[1]['nextPageToken']}"
    )

    assert [len(body["orders"]) for _, body in orders] == [1, 2, 0, 3]
    assert {each["customerId"] for each in told[1]["notifications"]} <= {"ada"}
    assert [status for status, _ in (named, tale)] == [403, 403]
    assert named[1]["details"][0]["reason"] == "OTHER_CUSTOMER"
    # A page token is good for the list that it was given for.
    assert stolen[0] == 400


async def test_nobody_orders_in_anothers_name(guarded):
    body = {"customerId": "ada", "items": [{"productId": "mug", "quantity": 1}]}

    status, said = await guarded.ask("bob", "POST", "/v1/orders", body)

    assert (status, said["details"][0]["reason"]) == (403, "OTHER_CUSTOMER")
    assert (await guarded.ask("boss", "GET", "/v1/orders"))[1]["orders"] == []


async def test_what_moves_money_or_stock_is_not_for_customers(guarded):
    for path, body in (
        ("/v1/payments", {"orderId": "o", "amount": {"currencyCode": "USD", "units": "1"}}),
        ("/v1/payments/p:refund", {}),
        ("/v1/reservations", {"orderId": "o", "items": [{"productId": "mug", "quantity": 1}]}),
        ("/v1/reservations/r:release", {}),
        ("/v1/products:import", [{"productId": "x", "title": "X", "available": "1"}]),
    ):
        status, said = await guarded.ask("ada", "POST", path, body)

        assert (status, said["details"][0]["reason"]) == (403, "NOT_FOR_CUSTOMERS"), (path, said)


async def test_staff_see_and_do_everything(guarded):
    name = (await guarded.buy("ada"))["orderId"]
    _, payment = await guarded.ask("boss", "GET", f"/v1/orders/{name}/payment")

    refund = await guarded.ask("boss", "POST", f"/v1/payments/{payment['paymentId']}:refund", {})
    order = await guarded.ask("boss", "GET", f"/v1/orders/{name}")

    assert (refund[0], order[0]) == (200, 200)
    assert order[1]["customerId"] == "ada"


async def test_a_key_makes_one_order_for_each_customer(guarded):
    """What was answered under a key is answered again to who asked, and to nobody else."""
    orders = []
    for who in ("ada", "bob", "ada"):
        body = {"customerId": who, "items": [{"productId": "mug", "quantity": 1}]}
        _, order = await guarded.ask(who, "POST", "/v1/orders?request_id=same", body)
        orders.append((order["orderId"], order["customerId"]))

    assert orders[0] == orders[2] != orders[1]
    assert [customer for _, customer in orders] == ["ada", "bob", "ada"]


async def test_services_act_by_themselves_and_the_auditor_reads_all(guarded):
    """The saga, the follower and the auditor have names of their own: the shop works and agrees."""
    await guarded.buy("ada")
    await guarded.buy("bob", paymentMethod="card-declined")

    with speaking(guarded.access.saying("audit")):
        async with auditors_shop(guarded.shop.registry) as books:
            report = audit(await read(books))
            while not report.settled and not report.wrong:
                report = audit(await read(books))

    assert (list(report.wrong), report.figures["orders"]) == ([], "2")


async def test_prices_and_status_are_the_shops_whatever_a_client_sends(guarded):
    order = await guarded.buy(
        "ada",
        status="ORDER_STATUS_CONFIRMED",
        total={"currencyCode": "USD", "units": "1"},
        orderId="mine",
        items=[
            {
                "productId": "mug",
                "quantity": 2,
                "unitPrice": {"currencyCode": "USD", "units": "0", "nanos": 1},
            }
        ],
    )
    path = f"/v1/orders/{order['orderId']}"
    inferred = await guarded.ask(
        "ada", "PATCH", path, {"status": "ORDER_STATUS_PENDING", "note": "n", "total": {}}
    )
    explicit = [
        await guarded.ask("ada", "PATCH", f"{path}?update_mask={field}", {field: value})
        for field, value in (("status", "ORDER_STATUS_PENDING"), ("total", {"units": "1"}))
    ]

    assert order["orderId"] != "mine"
    assert (order["total"]["units"], order["total"]["nanos"]) == ("29", 0)
    assert order["items"][0]["unitPrice"]["units"] == "14"
    assert (inferred[0], inferred[1]["status"], inferred[1]["note"]) == (
        *(200, "ORDER_STATUS_CONFIRMED", "n"),
    )
    assert inferred[1]["total"]["units"] == "29"
    assert [status for status, _ in explicit] == [400, 400]


async def test_with_the_rule_off_anybody_may_ask_for_anything(shop):
    order = await shop.orders.CreateOrder(asking(("mug", 1), customer="ada"))
    metadata = (("x-mesh-principal", "user:bob"),)

    seen = await shop.orders.GetOrder(GetOrderRequest(order_id=order.order_id), metadata=metadata)

    assert seen.customer_id == wanted(customer="ada").customer_id
