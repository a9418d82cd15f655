"""The file: what it spells, and what is refused by path and value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.environment import Usage, settings
from gateway.strangler import configuration
from gateway.strangler.configuration import load, read
from gateway.strangler.key import Key
from gateway.strangler.plan import Step
from mesh.errors import PolicyError

SYSTEM = {"url": "http://127.0.0.1:8900"}
ROUTE = {"name": "products", "legacy": "shop", "match": ["GET /v1/products"]}


def spelt(route: dict[str, Any] | None = None, **more: Any) -> str:
    whole = {"legacy": {"shop": SYSTEM}, "routes": [{**ROUTE, **(route or {})}], **more}
    return json.dumps(whole)


def test_the_example_of_the_docstring_is_read() -> None:
    text = (configuration.__doc__ or "").partition("\n\n")[2].partition("\n\n`percent`")[0]
    found = load(text)

    assert [route.name for route in found.routes] == ["products", "reviews"]
    assert found.served_by == "x-served-by"
    assert found.systems["shop"].timeout == 2.0
    products = found.routes[0]
    assert products.plan == (
        Step(percent=1, dwell=600),
        Step(percent=10, dwell=3600),
        Step(percent=100),
    )
    assert products.key == Key("header", "x-customer-id")
    assert products.shadow is not None
    assert products.shadow.ignore == (("products", "*", "available"),)
    assert products.abort is not None
    assert (products.abort.error_rate, products.abort.minimum_calls) == (0.05, 20)
    assert found.routes[1].plan == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "$: '{' is not JSON"),
        ("[]", "$: '[]' "),
        (spelt(nope=1), "$.nope: 1 is not a field"),
        (spelt(servedBy="a b"), "$.servedBy: 'a b' is not a header's name"),
        (spelt({"nope": 1}), "$.routes[0].nope: 1 is not a field"),
        (spelt({"legacy": "store"}), "$.routes[0].legacy: 'store' is not a name under"),
        (spelt({"name": "a b"}), "$.routes[0].name: 'a b' is not a name"),
        (spelt({"match": []}), "$.routes[0].match: [] names no path"),
        (spelt({"match": ["/v1"]}), "$.routes[0].match[0]: '/v1' is not a method and a path"),
        (spelt({"match": ["GET v1"]}), "$.routes[0].match[0]: 'GET v1' has no path"),
        (spelt({"match": ["GET /a", "GET /a"]}), "$.routes[0].match[1]: 'GET /a' is GET /a of"),
        (
            spelt({"match": ["GET /{a}", "GET /{b}"]}),
            "$.routes[0].match[1]: 'GET /{b}' is GET /{a}",
        ),
        (spelt({"key": "cookie:a"}), "$.routes[0].key: 'cookie:a' is not one of header, path"),
        (spelt({"key": "header:"}), "$.routes[0].key: 'header:' names no header"),
        (spelt({"key": "body:a..b"}), "$.routes[0].key: 'body:a..b' names no body"),
        (spelt({"percent": 101}), "$.routes[0].percent: 101.0 is not between 0 and 100"),
        (spelt({"percent": "1"}), "$.routes[0].percent: '1' expected"),
        (spelt({"percent": 0.001}), "$.routes[0].percent: 0.001 is finer than a hundredth"),
        (spelt({"percent": 1, "ramp": []}), "$.routes[0].percent: 1.0 stands beside a ramp"),
        (spelt({"ramp": [{"dwell": "1s"}]}), "$.routes[0].ramp[0]"),
        (spelt({"ramp": [{"percent": 5, "dwell": 60}]}), "$.routes[0].ramp[0].dwell: 60 expected"),
        (
            spelt({"ramp": [{"percent": 5}, {"percent": 5}]}),
            "$.routes[0].ramp[1].percent: 5.0 is not above the 5 before it",
        ),
        (spelt({"shadow": {"timeout": "0s"}}), "$.routes[0].shadow.timeout: 0.0 is not above 0"),
        (spelt({"shadow": {"limit": 0}}), "$.routes[0].shadow.limit: 0 is below 1"),
        (spelt({"shadow": {"ignore": ["a"]}}), "$.routes[0].shadow.ignore[0]: 'a' is not a JSON"),
        (spelt({"shadow": {"ignore": [1]}}), "$.routes[0].shadow.ignore[0]: 1 expected"),
        (spelt({"abort": {"errorRate": 2}}), "$.routes[0].abort.errorRate: 2.0 is not between"),
        (spelt({"abort": {"slow": "1s"}}), "$.routes[0].abort.slow: 1.0 and slow_rate are given"),
        (spelt(legacy={"shop": {}}), "$.legacy.shop"),
        (spelt(legacy={"shop": {"url": "shop:80"}}), "$.legacy.shop.url: 'shop:80' is not a URL"),
        (spelt(legacy={"a b": SYSTEM}), "$.legacy.a b: 'a b' is not a name"),
        (
            spelt(legacy={"shop": {**SYSTEM, "policy": {"methodConfig": 5}}}),
            "$.legacy.shop.policy.methodConfig: 5 expected",
        ),
        (
            spelt(routes=[ROUTE, {**ROUTE, "match": ["GET /x"]}]),
            "$.routes[1].name: 'products' is another route's already",
        ),
        (
            spelt(routes=[ROUTE, {**ROUTE, "name": "b"}]),
            "$.routes[1].match[0]: 'GET /v1/products' is GET /v1/products of another route",
        ),
        (
            spelt(routes=[{**ROUTE, "name": str(n), "match": [f"GET /{n}"]} for n in range(65)]),
            "$.routes: 65 are more than 64",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_by_path_and_value(text: str, said: str) -> None:
    with pytest.raises(PolicyError) as caught:
        load(text)

    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_file_is_named_in_what_is_wrong_with_it(tmp_path: Path) -> None:
    path = tmp_path / "strangler.json"
    with pytest.raises(PolicyError, match=f"file: '{path}' cannot be read: No such file"):
        read(path)
    path.write_text(spelt({"percent": 101}))
    with pytest.raises(PolicyError, match=rf"^{path}: \$.routes\[0\].percent: 101.0 "):
        read(path)
    with pytest.raises(Usage, match=r"GATEWAY_STRANGLER: .*percent: 101"):
        settings([], {"GATEWAY_STRANGLER": str(path)})


def test_the_state_is_kept_beside_the_file_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "strangler.json"
    path.write_text(spelt())

    told = settings([], {"GATEWAY_STRANGLER": str(path)})
    assert told.strangler == (path, tmp_path / "strangler.json.state")
    told = settings([], {"GATEWAY_STRANGLER": str(path), "GATEWAY_STRANGLER_STATE": "/var/x"})
    assert told.strangler == (path, Path("/var/x"))
    assert settings([], {}).strangler is None
