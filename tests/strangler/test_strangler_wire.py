"""Strangled routes on real sockets: who answers, what crosses, and what an ailing side does."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from gateway import Limits
from tests.gateway.scripted import until
from tests.strangler.town import strangled


async def test_customers_move_by_percent_and_stay_where_they_are(request: Any) -> None:
    async with strangled(request.node.nodeid, percent=0) as town:
        before = await town.sides(60)
        assert (await town.operator(route="products", percent=30))[0] == 200
        some = await town.sides(60)
        again = await town.sides(60)
        assert (await town.operator(route="products", percent=70))[0] == 200
        most = await town.sides(60)
        assert (await town.operator(route="products", percent=100))[0] == 200
        after = await town.sides(60)
        _, _, nameless = await town.ask("GET", "/v1/products/mug")

    moved = {who for who, side in some.items() if side == "new"}
    assert set(before.values()) == {"legacy"}
    assert some == again
    assert 5 <= len(moved) <= 35
    assert moved < {who for who, side in most.items() if side == "new"}
    assert set(after.values()) == {"new"}
    assert nameless == "new"


async def test_whoever_has_no_key_moves_last(request: Any) -> None:
    async with strangled(request.node.nodeid, percent=99.99) as town:
        assert (await town.ask("GET", "/v1/products/mug"))[2] == "legacy"
        await town.operator(route="products", percent=100)
        assert (await town.ask("GET", "/v1/products/mug"))[2] == "new"


@pytest.mark.parametrize(
    ("key", "path", "keywords"),
    [
        ("query:page_token", "/v1/products?page_size=1&pageToken=ada", {}),
        ("path:product_id", "/v1/products/ada", {}),
        ("header:x-who", "/v1/products/mug", {"headers": {"X-Who": "ada"}}),
    ],
)
async def test_the_key_is_read_where_it_stands(
    request: Any, key: str, path: str, keywords: dict[str, Any]
) -> None:
    from gateway.strangler.split import bucket

    at = bucket("ada", "products") / 100
    async with strangled(request.node.nodeid, key=key, percent=0) as town:
        town.old.titles["ada"] = town.new.titles["ada"] = "Ada"
        await town.operator(route="products", percent=at)
        below = await town.ask("GET", path, **keywords)
        await town.operator(route="products", percent=round(at + 0.01, 2))
        above = await town.ask("GET", path, **keywords)

    assert (below[2], above[2]) == ("legacy", "new")


async def test_a_body_is_read_for_its_key_and_still_reaches_both_sides(request: Any) -> None:
    from gateway.strangler.split import bucket

    at = bucket("o-1", "products") / 100
    body = {"orderId": "o-1", "items": [{"productId": "mug", "quantity": 1}]}
    match = ["POST /v1/reservations"]
    key = "body:order_id"
    async with strangled(request.node.nodeid, key=key, match=match, percent=0) as town:
        await town.operator(route="products", percent=at)
        old = await town.ask("POST", "/v1/reservations", json=body)
        await town.operator(route="products", percent=round(at + 0.01, 2))
        new = await town.ask("POST", "/v1/reservations", json=body)

    assert old == (200, {"method": "POST", "path": "/v1/reservations"}, "legacy")
    assert (new[0], new[1]["orderId"], new[2]) == (200, "o-1", "new")
    assert b'"o-1"' in town.old.bodies[0]


async def test_what_only_the_old_service_has_is_passed_on_as_it_came(request: Any) -> None:
    headers = {
        "Connection": "x-secret, close",
        "X-Secret": "for this hop",
        "TE": "trailers",
        "X-Api-Key": "k" * 20,
        "X-Mesh-Principal": "root",
        "X-Forwarded-For": "10.1.1.1",
        "Cookie": "a=b",
        "X-Mine": "kept",
    }
    async with strangled(request.node.nodeid) as town:
        status, body, by = await town.ask(
            "POST", "/v1/vouchers?a=%2F&b=+", data=b"code=1", headers=headers
        )
        seen = {name.lower(): value for name, value in town.old.seen[-1].items()}
        url = f"{town.url}/v1/vouchers"
        async with town.http.post(url, data=b"x") as response:
            back = response.headers
        missing, _, _ = await town.ask("GET", "/v1/vouchers")
        async with town.http.get(f"{town.url}/openapi.json") as response:
            paths = (await response.json())["paths"]

    assert (status, by) == (200, "legacy")
    assert body == {"method": "POST", "path": "/v1/vouchers?a=%2F&b=+"}
    assert town.old.bodies[0] == b"code=1"
    assert (seen["x-mine"], seen["cookie"]) == ("kept", "a=b")
    assert seen["x-forwarded-for"] == "10.1.1.1, 127.0.0.1"
    assert (seen["x-forwarded-proto"], seen["x-forwarded-host"]) == ("http", town.url[7:])
    assert seen["host"] != town.url[7:]
    assert not seen.keys() & {"x-secret", "te", "x-api-key", "x-mesh-principal"}
    assert not back.keys() & {"X-Hop", "Keep-Alive", "Access-Control-Allow-Origin"}
    assert missing == 405
    assert "/v1/vouchers" not in paths
    assert "/v1/products" in paths


async def test_head_is_answered_without_a_body_by_both(request: Any) -> None:
    async with strangled(request.node.nodeid, percent=0) as town:
        old = await town.ask("HEAD", "/v1/products/mug")
        await town.operator(route="products", percent=100)
        new = await town.ask("HEAD", "/v1/products/mug")
        large, _, _ = await town.ask("HEAD", "/v1/large?pieces=40")
        await until(lambda: not town.strangler.asked_of("shop"))

    assert (old, new) == ((200, b"", "legacy"), (200, b"", "new"))
    assert large == 200


async def test_a_large_answer_is_passed_on_as_it_comes(request: Any) -> None:
    async with strangled(request.node.nodeid) as town:
        status, body, _ = await town.ask("GET", "/v1/large?pieces=40")

    assert (status, len(body)) == (200, 40 * 65536)


async def test_an_answer_beyond_its_bound_is_cut_off(request: Any) -> None:
    system = {"answerBytes": 1_000_000}
    async with strangled(request.node.nodeid, system=system) as town:
        with pytest.raises(aiohttp.ClientError):
            await town.ask("GET", "/v1/large?pieces=40")
        assert (await town.ask("GET", "/v1/products/mug"))[0] == 200


async def test_a_body_that_is_too_large_reaches_nobody(request: Any) -> None:
    limits = Limits(body_bytes=1000)
    async with strangled(request.node.nodeid, limits=limits) as town:
        status, body, _ = await town.ask("POST", "/v1/vouchers", data=b"x" * 2000)

    assert (status, body["details"][0]["reason"]) == (413, "BODY_TOO_LARGE")
    assert town.old.seen == []


async def test_an_old_service_that_is_down_is_503_and_its_own_errors_are_its_own(
    request: Any,
) -> None:
    system = {"policy": {}}  # no retry, no breaker: each call is one
    async with strangled(request.node.nodeid, system=system, percent=0) as town:
        town.old.status = 500
        own = await town.ask("GET", "/v1/products/mug")
        town.old.status = 418
        teapot = await town.ask("GET", "/v1/products/mug")
    async with strangled(request.node.nodeid, percent=0, system={"url": "http://127.0.0.1:9"}) as (
        town
    ):
        async with town.http.get(f"{town.url}/v1/products/mug") as response:
            down, body, again = response.status, await response.json(), response.headers
        ready, _, _ = await town.ask("GET", "/readyz")

    assert own[:2] == (500, {"oops": "old"})
    assert teapot[:2] == (418, {"oops": "old"})
    assert (down, body["details"][0]["reason"]) == (503, "LEGACY_UNAVAILABLE")
    assert int(again["retry-after"]) >= 1
    assert "127.0.0.1" not in body["message"]
    assert ready == 200


async def test_a_circuit_opens_before_an_old_service_that_is_down(request: Any) -> None:
    policy = {"methodConfig": [{"name": [{}], "circuitBreaker": {"consecutiveFailures": 3}}]}
    system = {"url": "http://127.0.0.1:9", "policy": policy}
    async with strangled(request.node.nodeid, percent=0, system=system) as town:
        reasons = [
            (await town.ask("GET", "/v1/products/mug"))[1]["details"][0]["reason"] for _ in range(5)
        ]

    assert reasons == ["LEGACY_UNAVAILABLE"] * 3 + ["CIRCUIT_OPEN"] * 2


async def test_a_slow_old_service_is_504_by_its_own_timeout_or_by_the_clients(
    request: Any,
) -> None:
    system = {"timeout": "0.3s", "policy": {}}
    async with strangled(request.node.nodeid, system=system, percent=0) as town:
        town.old.delay = 20.0
        loop = asyncio.get_running_loop()
        began = loop.time()
        status, body, _ = await town.ask("GET", "/v1/products/mug")
        own = loop.time() - began
        hurried, _, _ = await town.ask("GET", "/v1/products/mug", headers={"Grpc-Timeout": "50m"})

    assert (status, body["details"][0]["reason"]) == (504, "LEGACY_TIMEOUT")
    assert 0.25 <= own < 5
    assert hurried == 504
    assert "grpc-timeout" not in {name.lower() for name in town.old.seen[-1]}


async def test_a_client_that_leaves_ends_the_call_to_the_old_service(request: Any) -> None:
    async with strangled(request.node.nodeid, percent=0) as town:
        town.old.delay = 30.0
        asking = asyncio.ensure_future(town.ask("GET", "/v1/products/mug"))
        await asyncio.wait_for(town.old.entered.wait(), 5)
        asking.cancel()
        await asyncio.wait_for(town.old.left.wait(), 5)


async def test_a_client_that_leaves_in_the_middle_of_a_large_answer_frees_the_connection(
    request: Any,
) -> None:
    async with strangled(request.node.nodeid) as town:
        async with town.http.get(f"{town.url}/v1/large?pieces=4000") as response:
            await response.content.read(65536)
            response.close()
        await asyncio.wait_for(town.old.left.wait(), 10)
        await until(lambda: not town.strangler.asked_of("shop"))


async def test_a_route_whose_service_is_not_there_yet_is_the_old_services(request: Any) -> None:
    match = ["GET /v1/orders/{order_id}"]  # of a service that is not running
    async with strangled(request.node.nodeid, match=match, percent=100) as town:
        status, body, by = await town.ask("GET", "/v1/orders/o-1")

    assert (status, body["path"], by) == (200, "/v1/orders/o-1", "legacy")
