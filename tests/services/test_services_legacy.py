"""The old shop: what it answers, what it refuses, and that the new shop's products are its own."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mesh.store import connect
from services.inventory.catalogue import FIRST_STOCK
from services.legacy.domain import FIRST_ARTICLES, NotUnderstood, review
from services.legacy.service import legacy
from tests.services.test_services_programs import ready, started


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
