"""The gateway over real sockets, unary calls: what a client of the shop's REST API sees."""

from __future__ import annotations

from typing import Any


async def test_an_order_is_answered_as_json(shop: Any) -> None:
    status, body, headers = await shop.ask("GET", "/v1/orders/o%2Fx")

    assert (status, body["orderId"], body["note"], body["items"]) == (200, "o/x", "hello", [])
    assert headers["content-type"] == "application/json"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["idempotent-replayed"] == "true"
    assert headers["grpc-metadata-x-from"] == "here"
