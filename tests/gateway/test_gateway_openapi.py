"""The document describes what is served, and is a valid one."""

from __future__ import annotations

import re
from typing import Any

from openapi_spec_validator import OpenAPIV31SpecValidator


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


async def test_comments_of_the_protos_are_the_documentation(shop: Any) -> None:
    """Served by reflection from descriptors without comments, the document has none, but works."""
    _, document, _ = await shop.ask("GET", "/openapi.json")
    get = document["paths"]["/v1/orders/{order_id}"]["get"]

    assert get["operationId"] == "OrderService_GetOrder"
    assert get["parameters"][0]["in"] == "path"


def test_a_contract_with_source_info_is_documented_by_its_comments(contract: Any) -> None:
    import json

    from gateway import openapi
    from gateway.catalog import Catalog, Version

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

    OpenAPIV31SpecValidator(document).validate()
    assert create["summary"] == "Takes an order"
    assert order["properties"]["note"]["description"] == "The customer's words to the shop."
    assert order["properties"]["status"]["readOnly"]
    assert order["required"] == ["customerId", "items"]
    names = {p["name"] for p in create["parameters"]}
    assert names == {"request_id", "wait", "Idempotency-Key"}
    assert document["paths"]["/v1/notifications:subscribe"]["get"]["x-websocket"] is True
