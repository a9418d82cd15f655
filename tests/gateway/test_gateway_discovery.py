"""Routes follow the registry while the gateway runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.api import annotations_pb2
from google.protobuf import descriptor_pool
from shop.orders.v1 import orders_pb2, orders_pb2_grpc

import discovery
from gateway import Gateway
from gateway.discover import rank
from tests.gateway.scripted import (
    SERVICES,
    Orders,
    Payments,
    descriptors,
    running,
    serving,
    until,
)


def pool_with(path: str, *, method: str = "GetOrder") -> Any:
    """The shop's descriptors with one route of the orders service at another path."""
    files = descriptors()
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        if file.name == "shop/orders/v1/orders.proto":
            rpc = next(m for m in file.service[0].method if m.name == method)
            rpc.options.Extensions[annotations_pb2.http].get = path
        pool.Add(file)
    return pool


@pytest.fixture
async def registry(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    async with discovery.connect(f"memory://{request.node.nodeid}") as registry:
        yield registry


def paths(gateway: Gateway) -> set[str]:
    return {f"{e.http_method} {e.template}" for e in gateway.app.catalog.router.entries}


async def test_a_gateway_without_services_is_alive_and_not_ready(registry: Any) -> None:
    async with serving(registry) as (_, url, http):
        async with http.get(f"{url}/healthz") as response:
            assert response.status == 200
        async with http.get(f"{url}/readyz") as response:
            assert response.status == 503
        async with http.get(f"{url}/v1/orders") as response:
            assert (response.status, response.headers["retry-after"]) == (503, "1")


async def test_a_service_that_registers_later_is_served_and_one_that_left_answers_503(
    registry: Any,
) -> None:
    async with serving(registry) as (gateway, url, http):
        async with running(registry, "orders", Orders()):
            await until(lambda: "GET /v1/orders/{order_id}" in paths(gateway))
            async with http.get(f"{url}/v1/orders/o-1") as response:
                assert response.status == 200
        async with asyncio.timeout(5):
            while True:
                async with http.get(f"{url}/v1/orders/o-1") as response:
                    if response.status != 200:
                        break
        assert response.status == 503
        assert int(response.headers["retry-after"]) >= 1


async def test_two_versions_are_served_as_their_union_and_the_log_says_so(
    registry: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "gateway")
    async with (
        serving(registry) as (gateway, url, http),
        running(registry, "orders", Orders()),
    ):
        await until(lambda: "GET /v1/orders/{order_id}" in paths(gateway))
        async with running(registry, "orders", Orders(), pool_with("/v2/{order_id}"), slot="2"):
            await until(lambda: "GET /v2/{order_id}" in paths(gateway))
            assert "GET /v1/orders/{order_id}" in paths(gateway)
            async with http.get(f"{url}/v2/o-1") as response:
                assert response.status == 200
        await until(lambda: "GET /v2/{order_id}" not in paths(gateway))

    assert "2 versions" in caplog.text


async def test_a_path_that_two_services_want_stays_with_the_first(
    registry: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "gateway")
    taken = pool_with("/v1/products")
    async with serving(registry) as (gateway, _, _http), running(registry, "inventory", None):
        await until(lambda: "GET /v1/products" in paths(gateway))
        async with running(registry, "orders", Orders(), taken):
            await until(lambda: "orders" in gateway.app.catalog.services)
            found, _ = gateway.app.catalog.router.find("GET", "/v1/products")

    assert found.name == "shop.inventory.v1.InventoryService.ListProducts"
    assert "the path is taken" in caplog.text


async def test_a_route_that_cannot_work_does_not_take_the_others_with_it(
    registry: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "gateway")
    broken = pool_with("/v1/orders/{nope}")
    async with (
        serving(registry) as (gateway, _, _http),
        running(registry, "orders", Orders(), broken),
    ):
        await until(lambda: "POST /v1/orders" in paths(gateway))

    assert "no field 'nope'" in caplog.text


async def test_an_instance_that_cannot_be_asked_is_asked_again(registry: Any) -> None:
    """It registers before it listens, as it should not."""
    from discovery import Instance

    async with serving(registry) as (gateway, _, _http):
        dead = Instance("orders", "127.0.0.1", 9, id="orders-dead", tags=("grpc",), check=None)
        async with registry.register(dead), running(registry, "orders", Orders()):
            await until(lambda: "POST /v1/orders" in paths(gateway))


async def test_a_summary_without_its_order_service_is_503(registry: Any) -> None:
    async with serving(registry) as (gateway, url, http), running(registry, "payments", Payments()):
        await until(lambda: "payments" in gateway.app.catalog.services)
        async with http.get(f"{url}/v1/orders/o-1/summary") as response:
            assert response.status == 503
            assert int(response.headers["retry-after"]) >= 1


async def test_a_restarted_instance_is_called_again_without_an_error_between(
    registry: Any,
) -> None:
    """GetOrder has no side effects: the mesh asks the other instance, the gateway asks once."""
    async with (
        serving(registry) as (gateway, url, http),
        running(registry, "orders", Orders(), slot="1"),
    ):
        statuses = []
        for _ in range(5):
            async with running(registry, "orders", Orders(), slot="2"):
                await until(lambda: "orders" in gateway.app.catalog.services)
                for _ in range(10):
                    async with http.get(f"{url}/v1/orders/o-1") as response:
                        statuses.append(response.status)
            for _ in range(10):
                async with http.get(f"{url}/v1/orders/o-1") as response:
                    statuses.append(response.status)

    assert set(statuses) == {200}


# -- contracts that change while they are served


def pool_with_peek(title: str = "peek") -> Any:
    """The shop's descriptors with one more method: GET /v1/orders/{order_id}/<title>."""
    pool = descriptor_pool.DescriptorPool()
    for file in descriptors().file:
        if file.name == "shop/orders/v1/orders.proto":
            added = file.service[0].method.add(
                name="PeekOrder",
                input_type=".shop.orders.v1.GetOrderRequest",
                output_type=".shop.orders.v1.Order",
            )
            added.options.Extensions[annotations_pb2.http].get = f"/v1/orders/{{order_id}}/{title}"
            added.options.idempotency_level = added.options.NO_SIDE_EFFECTS
        pool.Add(file)
    return pool


class Peeking(Orders):
    """The next version of orders: it has PeekOrder."""

    async def PeekOrder(self, request: Any, context: Any) -> Any:
        await self._seen(request, context)
        return orders_pb2.Order(order_id=request.order_id, note="peeked")


def add_peeking(servicer: Any, server: Any) -> None:
    orders_pb2_grpc.add_OrderServiceServicer_to_server(servicer, server)
    handler = grpc.unary_unary_rpc_method_handler(
        servicer.PeekOrder,
        request_deserializer=orders_pb2.GetOrderRequest.FromString,
        response_serializer=orders_pb2.Order.SerializeToString,
    )
    service = grpc.method_handlers_generic_handler(
        "shop.orders.v1.OrderService", {"PeekOrder": handler}
    )
    server.add_generic_rpc_handlers((service,))


@pytest.fixture
def peeking(monkeypatch: pytest.MonkeyPatch) -> Peeking:
    """A servicer of the next version, which `running` can serve."""
    add = SERVICES["orders"][1]

    def adding(servicer: Any, server: Any) -> None:
        (add_peeking if isinstance(servicer, Peeking) else add)(servicer, server)

    monkeypatch.setitem(SERVICES, "orders", (SERVICES["orders"][0], adding))
    return Peeking()


async def statuses(http: Any, url: str, times: int) -> set[int]:
    found = set()
    for _ in range(times):
        async with http.get(url) as response:
            found.add(response.status)
    return found


async def test_a_new_method_is_served_without_a_restart_and_asked_only_of_who_has_it(
    registry: Any, peeking: Peeking, caplog: pytest.LogCaptureFixture
) -> None:
    """The middle of a rolling update: the route appears once, and never answers 501."""
    caplog.set_level(logging.WARNING, "gateway")
    before = Orders()
    async with (
        serving(registry) as (gateway, url, http),
        running(registry, "orders", before, slot="1"),
    ):
        await until(lambda: "GET /v1/orders/{order_id}" in paths(gateway))
        assert await statuses(http, f"{url}/v1/orders/o-1/peek", 3) == {404}

        async with running(registry, "orders", peeking, pool_with_peek(), slot="2"):
            await until(lambda: "GET /v1/orders/{order_id}/peek" in paths(gateway))
            assert await statuses(http, f"{url}/v1/orders/o-1/peek", 40) == {200}
            assert await statuses(http, f"{url}/v1/orders/o-1", 40) == {200}
            shared = len(before.calls), len(peeking.calls) - 40
        await until(lambda: "GET /v1/orders/{order_id}/peek" not in paths(gateway))
        assert await statuses(http, f"{url}/v1/orders/o-1/peek", 3) == {404}
        assert await statuses(http, f"{url}/v1/orders/o-1", 10) == {200}
        async with running(registry, "orders", peeking, pool_with_peek(), slot="2"):
            await until(lambda: "GET /v1/orders/{order_id}/peek" in paths(gateway))

    # What both have is asked of both.
    assert min(shared) > 0
    # Each time that there are two it is news.
    assert caplog.text.count("runs 2 versions") == 2


async def test_of_two_versions_the_newest_decides_over_a_path_that_both_have(
    registry: Any, peeking: Peeking
) -> None:
    """The same path leads to GetOrder in the old contract and to PeekOrder in the new one."""
    old = pool_with("/v1/orders/{order_id}/peek")
    async with (
        serving(registry) as (gateway, url, http),
        running(registry, "orders", Orders(), old, slot="1"),
    ):
        await until(lambda: "GET /v1/orders/{order_id}/peek" in paths(gateway))
        async with running(registry, "orders", peeking, pool_with_peek(), slot="2"):
            await until(lambda: "GET /v1/orders/{order_id}" in paths(gateway))
            async with http.get(f"{url}/v1/orders/o-1/peek") as response:
                assert (response.status, (await response.json())["note"]) == (200, "peeked")
        await until(lambda: "GET /v1/orders/{order_id}" not in paths(gateway))
        async with http.get(f"{url}/v1/orders/o-1/peek") as response:
            assert (response.status, (await response.json())["note"]) == (200, "hello")


async def test_the_newest_is_what_the_versions_in_the_registry_say_not_who_was_learnt_last(
    registry: Any, peeking: Peeking
) -> None:
    """A gateway that starts in the middle of an update, or an old version that comes back."""
    old = pool_with("/v1/orders/{order_id}/peek")
    async with (
        serving(registry) as (gateway, url, http),
        running(registry, "orders", peeking, pool_with_peek(), slot="2", version="1.10.0"),
    ):
        await until(lambda: "GET /v1/orders/{order_id}/peek" in paths(gateway))
        async with running(registry, "orders", Orders(), old, slot="1", version="1.9.3"):
            (following,) = (v for name, v in gateway._versions.items() if name == "orders")
            await until(lambda: len(gateway._versions["orders"]) == 2)
            assert following[0] is gateway._versions["orders"][0]
            async with http.get(f"{url}/v1/orders/o-1/peek") as response:
                assert (response.status, (await response.json())["note"]) == (200, "peeked")


def test_versions_are_ranked_as_semver_has_it() -> None:
    rising = ["", "1.9", "1.10.0", "2.0.0-rc.2", "2.0.0-rc.10", "2.0.0-rc.x", "v2.0.0", "2.0.1+7"]
    assert sorted([*rising[4:], *rising[:4]], key=rank) == rising
    assert rank("v2.0.0+a") == rank("2.0.0")


async def test_the_last_instance_leaves_and_every_route_is_503_with_retry_after_never_404(
    registry: Any,
) -> None:
    async with serving(registry) as (gateway, url, http):
        async with running(registry, "orders", Orders()), running(registry, "payments", Payments()):
            await until(lambda: len(gateway.app.catalog.services) == 2)
        channel = gateway.channel("orders")
        await until(lambda: not channel.endpoints())
        for method, path in (
            ("GET", "/v1/orders/o-1"),
            ("GET", "/v1/orders"),
            ("GET", "/v1/orders/o-1:watch"),
            ("POST", "/v1/orders/o-1:cancel"),
        ):
            async with http.request(method, url + path) as response:
                body = await response.json()
                assert response.status == 503, path
                assert int(response.headers["retry-after"]) >= 1
                assert body["details"][0]["reason"] == "NO_ENDPOINT"
        async with http.get(f"{url}/nowhere") as response:
            assert response.status == 404
        async with http.get(f"{url}/openapi.json") as response:
            assert "/v1/orders/{order_id}" in (await response.json())["paths"]
