"""The admin port: what operators see, and what the public port never shows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import discovery
from gateway.guard import Guard
from gateway.keys import ApiKeys
from tests.gateway.scripted import Orders, running, serving, until

KEY = "a-key-of-twenty-chars"


@pytest.fixture
async def both(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """The public URL, the admin URL and a client."""
    guard = Guard(ApiKeys.parse(f"acme {KEY}"))
    async with (
        discovery.connect(f"memory://{request.node.nodeid}") as registry,
        running(registry, "orders", Orders()),
        serving(registry, admin=("127.0.0.1", 0), guard=guard) as (gateway, url, http),
    ):
        await until(lambda: gateway.app.catalog.ready)
        yield url, gateway.app.admin_url.rstrip("/"), http


async def test_the_root_of_the_public_port_leads_to_the_admin_port(both: Any) -> None:
    url, admin, http = both
    async with http.get(f"{url}/", allow_redirects=False) as response:
        assert (response.status, response.headers["location"]) == (302, f"{admin}/")
    async with http.get(f"{url}/") as page:
        assert (page.status, page.content_type) == (200, "text/html")
        assert "/admin/routes" in await page.text()


async def test_routes_and_configuration_are_shown_without_secrets(both: Any) -> None:
    _, admin, http = both
    async with http.get(f"{admin}/admin/routes") as response:
        routes = (await response.json())["routes"]
    async with http.get(f"{admin}/admin/config") as response:
        text = await response.text()
        config = await response.json()

    assert {
        "method": "GET",
        "path": "/v1/orders/{order_id}",
        "name": "shop.orders.v1.OrderService.GetOrder",
        "kind": "unary_unary",
        "body": "",
        "service": "orders",
    } in routes
    assert config["limits"]["requests"] == 1000
    assert config["guard"]["api_keys"] is True
    assert "retry" in config["policy"]
    assert KEY not in text


@pytest.mark.parametrize("path", ["/admin/routes", "/admin/config", "/admin/", "/metrics"])
async def test_the_public_port_has_no_admin_path(both: Any, path: str) -> None:
    url, _, http = both
    async with http.get(f"{url}{path}", headers={"X-Api-Key": KEY}) as response:
        assert response.status == 404


async def test_the_admin_port_only_shows(both: Any) -> None:
    _, admin, http = both
    async with http.post(f"{admin}/admin/routes") as response:
        assert (response.status, response.headers["allow"]) == (405, "GET, HEAD")
    async with http.get(f"{admin}/nowhere") as response:
        assert response.status == 404
    async with http.head(f"{admin}/") as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_a_page_that_has_its_name_point_here_learns_nothing(both: Any) -> None:
    _, admin, http = both
    headers = {"Host": "rebound.example"}
    async with http.get(f"{admin}/admin/config", headers=headers) as response:
        assert response.status == 403
    async with http.get(f"{admin}/admin/config", headers={"Host": "localhost:8081"}) as response:
        assert response.status == 200
