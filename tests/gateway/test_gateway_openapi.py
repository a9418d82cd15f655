"""The document describes what is served, and is a valid one."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

import discovery
from gateway import openapi
from gateway.catalog import Catalog, Version
from gateway.guard import Guard
from gateway.keys import ApiKeys
from tests.gateway.scripted import Orders, running, serving, until


async def test_the_document_is_valid_and_has_every_route(shop: Any) -> None:
    _, document, _ = await shop.ask("GET", "/openapi.json")
    entries = shop.gateway.app.catalog.router.entries
    shape = re.compile(r"\{[^}]*\}")
    documented = {
        f"{method.upper()} {shape.sub('{}', path)}"
        for path, operations in document["paths"].items()
        for method in operations
    }

    OpenAPIV31SpecValidator(document).validate()
    assert documented == {f"{e.http_method} {shape.sub('{}', str(e.template))}" for e in entries}


async def test_every_answer_is_said_to_name_its_request(shop: Any) -> None:
    _, document, headers = await shop.ask("GET", "/openapi.json")
    shared = document["components"]["responses"]
    unnamed = [
        (path, status)
        for path, operations in document["paths"].items()
        for operation in operations.values()
        for status, answer in operation["responses"].items()
        if "X-Request-Id"
        not in (shared[answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer)[
            "headers"
        ]
    ]
    pattern = document["components"]["headers"]["RequestId"]["schema"]["pattern"]

    assert unnamed == []
    assert re.fullmatch(pattern, headers["x-request-id"])


async def test_comments_of_the_protos_are_the_documentation(shop: Any) -> None:
    """Served by reflection from descriptors without comments, the document has none, but works."""
    _, document, _ = await shop.ask("GET", "/openapi.json")
    get = document["paths"]["/v1/orders/{order_id}"]["get"]

    assert get["operationId"] == "OrderService_GetOrder"
    assert get["parameters"][0]["in"] == "path"


def test_a_contract_with_source_info_is_documented_by_its_comments(contract: Any) -> None:
    import json

    class NoChannel:
        def learn(self, rpcs: Any) -> None:
            pass

        def stub(self, *_: Any) -> None:
            pass

    made = Catalog()
    for served in Version.of(contract, "shop", NoChannel()).served:
        made.router.add(served)
    document = json.loads(openapi.document(made))
    create = document["paths"]["/v1/orders"]["post"]
    order = document["components"]["schemas"]["shop.orders.v1.Order"]
    sent = document["components"]["schemas"]["shop.orders.v1.Order-Input"]

    OpenAPIV31SpecValidator(document).validate()
    assert create["summary"] == "Takes an order"
    assert order["properties"]["note"]["description"] == "The customer's words to the shop."
    assert order["properties"]["status"]["readOnly"]
    assert sent["required"] == ["customerId", "items"]
    assert "note" in order["required"], "what has no presence is always printed"
    product = document["components"]["schemas"]["shop.inventory.v1.Product-Input"]
    price = product["properties"]["price"]
    assert price["description"].endswith("and nanos of 0 to 999999999.")
    assert price["properties"]["currencyCode"] == {"type": "string", "pattern": "^[A-Z]{3}$"}
    assert price["properties"]["nanos"]["anyOf"][0]["minimum"] == 0
    assert sent["properties"]["customerId"] | {"description": ""} == {
        "type": "string",
        "minLength": 1,
        "maxLength": 128,
        "description": "",
    }
    names = {p["name"] for p in create["parameters"]}
    assert names == {"request_id", "wait", "Idempotency-Key"}
    assert document["paths"]["/v1/notifications:subscribe"]["get"]["x-websocket"] is True


async def test_what_a_patch_cannot_change_is_not_in_its_schema(shop: Any) -> None:
    _, document, _ = await shop.ask("GET", "/openapi.json")
    patch = document["paths"]["/v1/orders/{order_id}"]["patch"]
    schema = patch["requestBody"]["content"]["application/json"]["schema"]
    changed = {name for name, field in schema["properties"].items() if not field.get("readOnly")}
    mask = re.compile(patch["parameters"][1]["schema"]["pattern"])

    assert changed == {"note", "shippingAddress"}
    assert "required" not in schema
    assert mask.match("note,shipping_address")
    assert mask.match("*")
    assert not mask.match("status")


async def test_the_path_s_variables_are_no_part_of_the_body(shop: Any) -> None:
    _, document, _ = await shop.ask("GET", "/openapi.json")
    body = document["paths"]["/v1/orders/{order_id}:cancel"]["post"]["requestBody"]

    assert body["content"]["application/json"]["schema"]["properties"] == {}
    assert not body["required"]


async def test_every_operation_says_what_it_answers_besides_success(shop: Any) -> None:
    _, document, _ = await shop.ask("GET", "/openapi.json")
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert {"400", "404", "429", "500", "503", "504", "default"} <= set(
                operation["responses"]
            ), (method, path)
    created = document["paths"]["/v1/orders"]["post"]["responses"]

    assert {"408", "413", "415", "422"} <= set(created)
    assert "Idempotent-Replayed" in created["200"]["headers"]
    assert "OrderService_GetOrder" in created["200"]["links"]


async def test_who_must_say_who_it_is_is_told_how(request: pytest.FixtureRequest) -> None:
    keys = ApiKeys({sha256(b"k").hexdigest(): "ada"})
    async with (
        discovery.connect(f"memory://{request.node.nodeid}") as registry,
        running(registry, "orders", Orders()),
        serving(registry, guard=Guard(keys)) as (gateway, url, http),
    ):
        await until(lambda: gateway.app.catalog.ready)
        async with http.get(f"{url}/openapi.json") as response:
            document = await response.json()

    OpenAPIV31SpecValidator(document).validate()
    assert document["security"] == [{"api_keys": []}]
    assert document["components"]["securitySchemes"]["api_keys"]["name"] == "X-Api-Key"
    assert "401" in document["paths"]["/v1/orders"]["get"]["responses"]


class Builds:
    """How often the document is built; a build waits for `go`, in its thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads: list[int] = []
        self.go = threading.Event()
        self.fails = False
        build = openapi._document

        def counted(*made_of: Any) -> bytes:
            self.threads.append(threading.get_ident())
            assert self.go.wait(20)
            if self.fails:
                raise LookupError("no such descriptor")
            return build(*made_of)

        monkeypatch.setattr(openapi, "_document", counted)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Iterator[Builds]:
    made = Builds(monkeypatch)
    yield made
    made.go.set()


async def test_it_is_built_once_beside_the_event_loop_and_others_are_served_meanwhile(
    shop: Any, builds: Builds
) -> None:
    asking = [asyncio.create_task(shop.ask("GET", "/openapi.json")) for _ in range(8)]
    await until(lambda: bool(builds.threads))
    served, _, _ = await shop.ask("GET", "/v1/orders/o-1")
    asking[0].cancel()  # one that leaves takes nothing from the others
    await asyncio.wait(asking[:1])
    unbuilt = [task.done() for task in asking[1:]]
    builds.go.set()
    answers = [await task for task in asking[1:]]
    again, _, _ = await shop.ask("GET", "/openapi.json")

    assert (served, again) == (200, 200)
    assert not any(unbuilt)
    assert {status for status, _, _ in answers} == {200}
    assert len(builds.threads) == 1
    assert builds.threads[0] != threading.get_ident()


async def test_who_is_cancelled_takes_nothing_from_those_who_wait_too(builds: Builds) -> None:
    document, catalog = openapi.Document(), Catalog()
    first, second = [asyncio.create_task(document.of(catalog)) for _ in range(2)]
    await until(lambda: bool(builds.threads))
    first.cancel()
    await asyncio.wait([first])
    builds.go.set()

    assert b'"openapi":"3.1.0"' in await second
    assert len(builds.threads) == 1


async def test_it_is_built_again_when_something_else_is_served_or_building_failed(
    shop: Any, builds: Builds
) -> None:
    builds.go.set()
    builds.fails = True
    failed, body, _ = await shop.ask("GET", "/openapi.json")
    builds.fails = False
    first, before, _ = await shop.ask("GET", "/openapi.json")

    @shop.gateway.get("/v1/new")
    async def new(page: Any) -> None:
        """A page that was not there."""

    second, after, _ = await shop.ask("GET", "/openapi.json")

    assert (failed, body["details"][0]["reason"]) == (500, "INTERNAL")
    assert (first, second, len(builds.threads)) == (200, 200, 3)
    assert after["paths"].keys() - before["paths"].keys() == {"/v1/new"}
