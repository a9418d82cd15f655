"""Routes follow the registry while the gateway runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.api import annotations_pb2
from google.protobuf import descriptor_pool

import discovery
from gateway import Gateway
from tests.gateway.scripted import Orders, Payments, descriptors, running, serving, until


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
