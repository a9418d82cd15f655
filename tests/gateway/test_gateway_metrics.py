"""/metrics: gRPC's own names and buckets, routes by template, all workers beside each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

import discovery
from discovery.agent import Agent
from mesh.telemetry.metrics import LATENCY
from scripts.stage.preflight import free_port
from tests.gateway.scripted import Orders, running, serving, until
from tests.gateway.test_gateway_process import process
from tests.gateway.test_gateway_workers import LINUX, children, served

METHOD = "shop.orders.v1.OrderService/GetOrder"


class Scraped:
    """Samples by name and labels."""

    def __init__(self, text: str) -> None:
        self.families = {each.name: each for each in text_string_to_metric_families(text)}
        self.samples = [each for family in self.families.values() for each in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """The one sample of this name with these labels among its own."""
        (found,) = [
            each.value
            for each in self.samples
            if each.name == name and labels.items() <= each.labels.items()
        ]
        return found

    def all(self, name: str, label: str) -> set[str]:
        return {each.labels[label] for each in self.samples if each.name == name}


async def scrape(http: aiohttp.ClientSession, admin: str) -> Scraped:
    async with http.get(f"{admin.rstrip('/')}/metrics") as response:
        assert response.status == 200
        assert response.content_type == "text/plain"
        return Scraped(await response.text())


@pytest.fixture
async def measured(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """The public URL, the gateway and a client, before one instance of orders."""
    async with (
        discovery.connect(f"memory://{request.node.nodeid}") as registry,
        running(registry, "orders", Orders()),
        serving(registry, admin=("127.0.0.1", 0)) as (gateway, url, http),
    ):
        await until(lambda: gateway.app.catalog.ready)
        yield url, gateway, http


async def test_calls_are_counted_by_grpcs_own_names_and_buckets(measured: Any) -> None:
    url, gateway, http = measured
    for path in ("/v1/orders/o-1", "/v1/orders/o-2", "/v1/orders/missing"):
        async with http.get(url + path) as response:
            await response.read()
    found = await scrape(http, gateway.app.admin_url)

    labels = {"grpc_method": METHOD, "grpc_target": "orders"}
    assert found.value("grpc_client_attempt_started_total", **labels) == 3
    ok = {**labels, "grpc_status": "OK"}
    assert found.value("grpc_client_attempt_duration_seconds_count", **ok) == 2
    assert found.value("grpc_client_call_duration_seconds_count", **ok) == 2
    missing = {**labels, "grpc_status": "NOT_FOUND"}
    assert found.value("grpc_client_call_duration_seconds_count", **missing) == 1
    bounds = [
        float(each.labels["le"])
        for each in found.samples
        if each.name == "grpc_client_attempt_duration_seconds_bucket"
        and ok.items() <= each.labels.items()
    ]
    assert bounds == [*LATENCY, float("inf")]
    assert found.families["grpc_client_attempt_duration_seconds"].type == "histogram"
    assert found.value("mesh_client_endpoints", grpc_target="orders", state="known") == 1


async def test_requests_are_counted_by_route_and_never_by_what_a_client_wrote(
    measured: Any,
) -> None:
    url, gateway, http = measured
    asked = [
        ("GET", "/v1/orders/o-1"),
        ("GET", "/v1/orders/missing"),
        ("DELETE", "/v1/orders/o-1"),
        ("GET", "/healthz"),
        ("BREW", "/v1/orders/o-1"),
        *(("GET", f"/nowhere/{number}") for number in range(50)),
    ]
    for method, path in asked:
        async with http.request(method, url + path) as response:
            await response.read()
    found = await scrape(http, gateway.app.admin_url)

    def count(method: str, route: str, status: int) -> float:
        return found.value(
            "http_server_request_duration_seconds_count",
            http_request_method=method,
            http_route=route,
            http_response_status_code=str(status),
        )

    assert count("GET", "/v1/orders/{order_id}", 200) == 1
    assert count("GET", "/v1/orders/{order_id}", 404) == 1
    assert count("DELETE", "none", 405) == 1
    assert count("_OTHER", "none", 405) == 1
    assert count("GET", "/healthz", 200) == 1
    assert count("GET", "none", 404) == 50
    assert found.value("http_server_active_requests") == 0
    assert found.value("process_resident_memory_bytes") > 1e6
    assert found.value("process_cpu_seconds_total") > 0


async def test_a_retried_call_says_how_often_and_how_long_it_waited(request: Any) -> None:
    class Flaky(Orders):
        async def GetOrder(self, request: Any, context: Any) -> Any:
            import grpc

            if len(self.calls) < 1:
                self.calls.append(request)
                await context.abort(grpc.StatusCode.UNAVAILABLE, "once")
            return await super().GetOrder(request, context)

    async with (
        discovery.connect(f"memory://{request.node.nodeid}") as registry,
        running(registry, "orders", Flaky()),
        serving(registry, admin=("127.0.0.1", 0)) as (gateway, url, http),
    ):
        await until(lambda: gateway.app.catalog.ready)
        for _ in range(3):
            async with http.get(f"{url}/v1/orders/o-1") as response:
                assert response.status == 200
        found = await scrape(http, gateway.app.admin_url)

    labels = {"grpc_method": METHOD, "grpc_target": "orders"}
    # Of the calls that were retried; the delay is every call's.
    assert found.value("grpc_client_call_retries_count", **labels) == 1
    assert found.value("grpc_client_call_retries_sum", **labels) == 1
    assert found.value("grpc_client_call_retry_delay_seconds_count", **labels) == 3
    assert found.value("grpc_client_call_retry_delay_seconds_sum", **labels) > 0.01
    assert found.value("grpc_client_attempt_started_total", **labels) == 4


async def test_openmetrics_is_spoken_to_whoever_asks_for_it(measured: Any) -> None:
    url, gateway, http = measured
    async with http.get(f"{url}/v1/orders/o-1") as response:
        assert response.status == 200
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    async with http.get(f"{gateway.app.admin_url}metrics", headers=accept) as response:
        assert response.content_type == "application/openmetrics-text"
        text = await response.text()

    families = {family.name for family in openmetrics.text_string_to_metric_families(text)}
    assert "grpc_client_attempt_duration_seconds" in families
    assert text.endswith("# EOF\n")


async def test_without_an_admin_port_nothing_is_counted(request: Any) -> None:
    async with (
        discovery.connect(f"memory://{request.node.nodeid}") as registry,
        serving(registry) as (gateway, url, http),
        http.get(f"{url}/metrics") as response,
    ):
        assert response.status in (404, 503)

    assert gateway.app.metrics is None


@LINUX
async def test_one_scrape_shows_every_worker_and_which_of_them_are_away() -> None:
    admin = free_port()
    async with (
        Agent.serving(port=0) as agent,
        discovery.connect(agent.url) as registry,
        running(registry, "orders", Orders()),
        aiohttp.ClientSession() as http,
        process("--workers", "3", MESH_REGISTRY=agent.url, GATEWAY_ADMIN_PORT=str(admin)) as child,
    ):
        assert child.stdout is not None
        url = (await asyncio.wait_for(child.stdout.readline(), 60)).decode().split()[-1]
        await served(url)
        assert len(children(child.pid)) == 3
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector) as each:
            for _ in range(60):
                async with each.get(f"{url}/v1/orders/told") as response:
                    assert response.status == 200
        found = await scrape(http, f"http://127.0.0.1:{admin}")
        child.terminate()
        await asyncio.wait_for(child.communicate(), 30)

    name = "http_server_request_duration_seconds_count"
    assert found.all("gateway_worker_up", "worker") == {"0", "1", "2"}
    assert found.all("process_cpu_seconds_total", "worker") == {"0", "1", "2"}
    by_worker = [
        each.value
        for each in found.samples
        if each.name == name
        and each.labels["http_route"] == "/v1/orders/{order_id}"
        and each.labels["http_response_status_code"] == "200"
    ]
    assert sum(by_worker) >= 60
    assert len(by_worker) >= 2
