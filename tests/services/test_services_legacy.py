"""The old shop: what it answers, what it refuses, and that the new shop's products are its own."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import discovery
from gateway import Gateway
from gateway.guard import Guard
from gateway.keys import ApiKeys
from gateway.strangler.configuration import load
from gateway.strangler.strangler import Strangler
from mesh.identity import Caller, Seal
from mesh.store import connect
from services.access import Access
from services.inventory.catalogue import FIRST_STOCK
from services.legacy.domain import FIRST_ARTICLES, NotUnderstood, review
from services.legacy.service import legacy
from tests.gateway.scripted import until
from tests.services.test_services_programs import ready, started

SEAL = Seal([b"0123456789abcdef0123456789abcdef"])


@pytest.fixture
async def old(tmp_path: Path) -> AsyncIterator[Any]:
    """Asks the old shop: method and path to status and JSON."""
    async with (
        connect(f"sqlite:///{tmp_path}/legacy.db") as database,
        legacy(database) as address,
        aiohttp.ClientSession() as http,
    ):

        async def ask(method: str, path: str, **keywords: Any) -> tuple[int, Any]:
            async with http.request(method, f"http://{address}{path}", **keywords) as response:
                is_json = response.content_type == "application/json"
                return response.status, await (response.json() if is_json else response.text())

        yield ask


def test_the_new_shop_was_stocked_from_the_old_one() -> None:
    copied = {
        each.product_id: (
            each.title,
            each.price.units * 100 + each.price.nanos // 10_000_000,
            each.price.currency,
            each.available,
        )
        for each in FIRST_STOCK
    }

    assert copied == {
        each.sku: (each.name, each.cents, each.currency, each.stock) for each in FIRST_ARTICLES
    }


async def test_products_are_listed_page_by_page(old: Any) -> None:
    seen, token = [], ""
    while True:
        status, body = await old("GET", f"/v1/products?page_size=5&page_token={token}")
        assert status == 200
        seen += [each["productId"] for each in body["products"]]
        token = body.get("nextPageToken", "")
        if not token:
            break

    assert seen == sorted(each.sku for each in FIRST_ARTICLES)


async def test_a_product_is_shown_in_the_old_shops_words(old: Any) -> None:
    assert await old("GET", "/v1/products/mug") == (
        200,
        {
            "productId": "mug",
            "title": "Stoneware mug",
            "price": {"currencyCode": "USD", "units": 14, "nanos": 500_000_000},
            "available": 10_000,
            "shelf": "A",
        },
    )
    assert await old("GET", "/v1/products/none") == (404, {"error": "no such product"})


async def test_reviews_are_what_only_it_has(old: Any) -> None:
    path = "/v1/products/mug/reviews"
    assert await old("GET", path) == (200, {"reviews": []})
    written = {"stars": 4, "text": "Sturdy.", "author": "ada"}
    assert await old("POST", path, json=written) == (201, written)

    assert await old("GET", path) == (200, {"reviews": [written]})
    assert (await old("GET", "/v1/products/none/reviews"))[0] == 404
    assert (await old("POST", "/v1/products/none/reviews", json=written))[0] == 404


@pytest.mark.parametrize(
    ("keywords", "status", "said"),
    [
        ({"data": b"{"}, 400, "not JSON"),
        ({"data": b"\xff"}, 400, "not JSON"),
        ({"json": []}, 400, "an object"),
        ({"json": {"stars": 6, "text": "x"}}, 400, "stars"),
        ({"json": {"stars": True, "text": "x"}}, 400, "stars"),
        ({"json": {"stars": 5, "text": ""}}, 400, "text"),
        ({"json": {"stars": 5, "text": "x" * 2001}}, 400, "text"),
        ({"json": {"stars": 5, "text": "x", "author": 1}}, 400, "author"),
        ({"data": b"x" * 70_000}, 413, "Maximum request body size"),
    ],
)
async def test_a_review_that_makes_no_sense_is_refused(
    old: Any, keywords: dict[str, Any], status: int, said: str
) -> None:
    found, body = await old("POST", "/v1/products/mug/reviews", **keywords)

    assert found == status
    assert said in str(body)
    assert await old("GET", "/v1/products/mug/reviews") == (200, {"reviews": []})


async def test_a_page_size_that_is_none_is_refused(old: Any) -> None:
    assert (await old("GET", "/v1/products?page_size=x"))[0] == 400
    assert (await old("GET", "/v1/products?page_size=-1"))[0] == 400


def test_whoever_says_no_name_is_somebody() -> None:
    assert review("mug", {"stars": 1, "text": "x"}).author == "somebody"
    with pytest.raises(NotUnderstood):
        review("mug", None)


async def test_it_runs_as_a_program_and_stops_when_told(tmp_path: Path) -> None:
    environment = {"DATABASE_URL": f"sqlite:///{tmp_path}/legacy.db"}
    async with started("legacy", **environment) as process, aiohttp.ClientSession() as http:
        url = "http://" + (await ready(process)).split()[-1]
        async with http.get(f"{url}/v1/products/mug") as response:
            assert response.status == 200
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0


@asynccontextmanager
async def asking(tmp_path: Path) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """An old shop that asks who calls, of which "user:boss" is staff: its URL, and a client."""
    access = Access(SEAL, staff=frozenset({"user:boss"}))
    async with (
        connect(f"sqlite:///{tmp_path}/legacy.db") as database,
        legacy(database, access=access) as address,
        aiohttp.ClientSession() as http,
    ):
        yield f"http://{address}", http


def as_(kind: str, name: str) -> dict[str, str]:
    return dict(SEAL.say(Caller.named(kind, name)))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Mesh-Principal": "user:ada"},
        dict(Seal([b"another" * 8]).say(Caller("user:ada"))),
        {**as_("user", "ada"), "x-mesh-principal": "user:bob"},
        {"Authorization": "Bearer x"},
    ],
)
async def test_whoever_proves_nothing_is_refused_where_it_is_asked(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    async with asking(tmp_path) as (url, http):
        for method, path in (("GET", "/v1/products"), ("POST", "/v1/products/mug/reviews")):
            async with http.request(method, url + path, headers=headers) as answer:
                assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize(
    ("kind", "name", "author", "status", "by"),
    [
        ("user", "ada", None, 201, "ada"),
        ("user", "ada", "ada", 201, "ada"),
        ("user", "ada", "bob", 403, None),
        ("key", "acme", None, 201, "key:acme"),
        ("key", "acme", "acme", 403, None),
        # A token's subject that looks like an API key's holder is nobody.
        ("user", "key:acme", None, 403, None),
        ("user", "boss", "bob", 201, "bob"),
        ("service", "import", "bob", 201, "bob"),
    ],
)
async def test_a_review_is_by_who_writes_it(
    tmp_path: Path, kind: str, name: str, author: str | None, status: int, by: str | None
) -> None:
    path = "/v1/products/mug/reviews"
    written = {"stars": 5, "text": "x", **({"author": author} if author else {})}
    async with asking(tmp_path) as (url, http):
        async with http.post(url + path, json=written, headers=as_(kind, name)) as answer:
            assert answer.status == status, await answer.text()
        async with http.get(url + path, headers=as_("user", "boss")) as answer:
            found = (await answer.json())["reviews"]

    assert [each["author"] for each in found] == ([by] if by else [])


async def test_one_connection_may_speak_for_several_customers(tmp_path: Path) -> None:
    path = "/v1/products/mug/reviews"
    async with asking(tmp_path) as (url, http):
        for headers in (as_("user", "ada"), as_("user", "boss"), as_("user", "bob")):
            async with http.post(url + path, json={"stars": 5, "text": "x"}, headers=headers) as a:
                assert a.status == 201
        async with http.get(url + path, headers=headers) as answer:
            found = (await answer.json())["reviews"]

    assert sorted(each["author"] for each in found) == ["ada", "bob", "somebody"]


async def test_the_gateway_tells_it_who_asks_and_nobody_else_can(tmp_path: Path) -> None:
    keys = ApiKeys.parse("acme 3f9c1e0a77b24d5f8a61")
    path = "/v1/products/mug/reviews"
    route = {"name": "reviews", "legacy": "old", "match": ["POST /v1/products/{sku}/reviews"]}
    async with (
        asking(tmp_path) as (old, http),
        discovery.connect(f"memory://{tmp_path}") as registry,
    ):
        told = json.dumps({"legacy": {"old": {"url": old}}, "routes": [route]})
        gateway = Gateway(registry, guard=Guard(keys, seal=SEAL), strangler=Strangler(load(told)))
        review = {"json": {"stars": 5, "text": "x"}}
        async with gateway.serving() as url:
            known = {"X-Api-Key": "3f9c1e0a77b24d5f8a61", "X-Mesh-Principal": "user:boss"}
            await until(lambda: gateway.app.catalog.ready)
            async with http.post(url + path, headers=known, **review) as answer:
                assert (answer.status, (await answer.json())["author"]) == (201, "key:acme")
            async with http.post(url + path, headers=as_("user", "boss"), **review) as answer:
                assert answer.status == 401
