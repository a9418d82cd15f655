"""The chapters told over REST: buying, asking twice, a declined card, watching an order."""

from __future__ import annotations

import json

from scripts.story.visit import Json, Visit, Wrong, basket, expect

CONFIRMED = "ORDER_STATUS_CONFIRMED"
CANCELLED = "ORDER_STATUS_CANCELLED"


async def products(visit: Visit) -> str:
    listed = (await visit.get("/v1/products"))["products"]
    expect(listed, "no product is listed")
    visit.shelves = {product["productId"]: imported(product) for product in listed}
    return f"{len(listed)} products"


def imported(product: Json) -> int:
    """How many of it ever came in: what is left, held and sold."""
    return int(product["available"]) + int(product["reserved"]) + int(product["sold"])


async def order(visit: Visit) -> str:
    placed = await visit.post("/v1/orders", basket(), wait="true")
    order_id = placed["orderId"]
    expect(placed["status"] == CONFIRMED, f"order {order_id} is {placed['status']}")
    summary = await visit.get(f"/v1/orders/{order_id}/summary")
    expect(not summary["missing"], f"the summary misses {summary['missing']}")
    expect(summary["order"] == placed, f"the summary shows another order: {summary['order']}")
    payment, reservation = summary["payment"], summary["reservation"]
    expect(payment["status"] == "PAYMENT_STATUS_CAPTURED", f"the payment is {payment}")
    expect(payment["amount"] == placed["total"], f"paid {payment['amount']}, not the total")
    expect(reservation["status"] == "RESERVATION_STATUS_COMMITTED", f"stock is {reservation}")
    visit.bought = order_id
    return f"{order_id} is CONFIRMED; its summary has order, payment and reservation"


async def same_key(visit: Visit) -> str:
    first = await visit.post("/v1/orders", basket(), key="story-1", wait="true")
    again = await visit.post("/v1/orders", basket(), key="story-1", wait="true")
    expect(first == again, f"the same key made {first['orderId']} and {again['orderId']}")
    body = basket(quantity=3)
    key = {"Idempotency-Key": "story-1"}
    async with visit.http.post("/v1/orders", json=body, headers=key) as answer:
        expect(answer.status == 422, f"another body under the same key answered {answer.status}")
    return "one order, however often it is asked for; another body under its key is refused"


async def declined(visit: Visit) -> str:
    before = await visit.get("/v1/products/clock")
    placed = await visit.post("/v1/orders", basket("clock", 1, "card-declined"), wait="true")
    expect(placed["status"] == CANCELLED, f"the order is {placed['status']}")
    expect(placed["cancelReason"] == "CARD_DECLINED", f"because of {placed['cancelReason']}")
    after = await visit.get("/v1/products/clock")
    expect(before == after, f"the stock was {before} and is {after}")
    return "CANCELLED with CARD_DECLINED, and the stock is back"


async def errors(visit: Visit) -> str:
    for path, status in (("/v1/orders/nobody", 404), ("/v1/nothing", 404)):
        async with visit.http.get(path) as answer:
            expect(answer.status == status, f"GET {path} answered {answer.status}")
    bad = {"customerId": "ada", "items": [{"productId": "mug", "quantity": 0}]}
    async with visit.http.post("/v1/orders", json=bad) as answer:
        text = await answer.text()
        expect(answer.status == 400, f"a quantity of 0 answered {answer.status}: {text}")
        expect("quantity" in text, f"the error does not name the field: {text}")
    return "404 for what is not there, 400 that names the field for what is malformed"


async def watching(visit: Visit) -> str:
    ndjson = await _watch(visit, "application/x-ndjson", "")
    events = await _watch(visit, "text/event-stream", "data:")
    return f"{ndjson} messages as NDJSON and {events} as server-sent events, up to CONFIRMED"


async def _watch(visit: Visit, accept: str, prefix: str) -> int:
    placed = await visit.post("/v1/orders", basket(method="card-slow"))
    path = f"/v1/orders/{placed['orderId']}:watch"
    seen = []
    async with visit.http.get(path, headers={"Accept": accept}) as answer:
        if answer.status != 200:
            raise Wrong(f"GET {path} as {accept} answered {answer.status}: {await answer.text()}")
        async for line in answer.content:
            text = line.decode().strip()
            if text and text.startswith(prefix):
                seen.append(json.loads(text.removeprefix(prefix))["status"])
    expect(len(seen) > 1 and seen[-1] == CONFIRMED, f"watched as {accept}, saw {seen}")
    return len(seen)
