"""
The old shop's HTTP, in its own words.

    GET  /v1/products?page_size=&page_token=      GET /v1/products/{sku}
    GET  /v1/products/{sku}/reviews               POST the same: {"stars": 5, "text": "..."}

Its products look much like the new shop's, since the same pages show both; but numbers are
numbers, what is empty is left out, and each has a shelf.  Errors are {"error": "..."}.

Where the shop asks who calls (services.access), so does this: who proves nothing is told 401, and
a review is by who writes it.
"""

from __future__ import annotations

import json
import time
import uuid
from functools import partial
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from mesh.errors import Code, StatusError
from mesh.store import Database, Transaction
from services.access import OPEN, Access, customer
from services.legacy import store
from services.legacy.domain import Article, NotTheirs, NotUnderstood, Review, review

UNPROVEN = {Code.UNAUTHENTICATED: 401, Code.UNAVAILABLE: 503}
MOST_BYTES = 64 * 1024
USUAL_PAGE = 50
LARGEST_PAGE = 1000


class OldShop:
    """The handlers, on an entered database."""

    def __init__(self, database: Database, access: Access = OPEN) -> None:
        self._database = database
        self._access = access

    def application(self) -> web.Application:
        application = web.Application(client_max_size=MOST_BYTES, middlewares=[self._asked])
        application.router.add_get("/v1/products", self.products)
        application.router.add_get("/v1/products/{sku}", self.product)
        application.router.add_get("/v1/products/{sku}/reviews", self.reviews)
        application.router.add_post("/v1/products/{sku}/reviews", self.write)
        return application

    @web.middleware
    async def _asked(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Serve who proves who they are, where that is asked."""
        headers = [(name.lower(), value) for name, value in request.headers.items()]
        try:
            await self._access.confine(headers)
        except StatusError as error:
            return _refused(UNPROVEN.get(error.code, 403), str(error))
        return await handler(request)

    async def products(self, request: web.Request) -> web.Response:
        asked = request.query.get("page_size") or request.query.get("pageSize") or "0"
        if not (asked.isascii() and asked.isdigit() and len(asked) < 10):
            return _refused(400, "page_size: a whole number")
        size = min(int(asked) or USUAL_PAGE, LARGEST_PAGE)
        after = request.query.get("page_token") or request.query.get("pageToken") or ""
        found = await self._database.read(
            partial(store.listed, after=after, limit=size + 1),
        )
        body: dict[str, Any] = {"products": [_shown(article) for article in found[:size]]}
        if len(found) > size:
            body["nextPageToken"] = found[size - 1].sku
        return web.json_response(body)

    async def product(self, request: web.Request) -> web.Response:
        article = await self._database.read(partial(store.load, sku=request.match_info["sku"]))
        return _missing() if article is None else web.json_response(_shown(article))

    async def reviews(self, request: web.Request) -> web.Response:
        sku = request.match_info["sku"]
        if await self._database.read(partial(store.load, sku=sku)) is None:
            return _missing()
        found = await self._database.read(partial(store.reviews, sku=sku))
        return web.json_response({"reviews": [_told(each) for each in found]})

    async def write(self, request: web.Request) -> web.Response:
        sku = request.match_info["sku"]
        try:
            written = review(sku, await request.json(), customer())
        except (json.JSONDecodeError, UnicodeDecodeError):
            return _refused(400, "the body is not JSON")
        except NotUnderstood as error:
            return _refused(400, str(error))
        except NotTheirs as error:
            return _refused(403, str(error))

        async def keep(tx: Transaction) -> bool:
            if await store.load(tx, sku) is None:
                return False
            await store.keep(tx, str(uuid.uuid4()), written, time.time_ns())
            return True

        if not await self._database.transaction(keep):
            return _missing()
        return web.json_response(_told(written), status=201)


def _shown(article: Article) -> dict[str, Any]:
    units, cents = divmod(article.cents, 100)
    return {
        "productId": article.sku,
        "title": article.name,
        "price": {"currencyCode": article.currency, "units": units, "nanos": cents * 10_000_000},
        "available": article.stock,
        "shelf": article.shelf,
    }


def _told(each: Review) -> dict[str, Any]:
    return {"stars": each.stars, "text": each.text, "author": each.author}


def _missing() -> web.Response:
    return _refused(404, "no such product")


def _refused(status: int, why: str) -> web.Response:
    # "The server generating a 401 response MUST send a WWW-Authenticate" - RFC 9110, 15.5.2
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    return web.json_response({"error": why}, status=status, headers=headers)
