"""Which route a request meets, and how a request without one is told so."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from gateway.router import Ambiguous, NoRoute, Router, WrongMethod
from gateway.rule import Template, parse


@dataclass(frozen=True)
class Entry:
    line: str
    http_method: str = field(init=False)
    template: Template = field(init=False)

    def __post_init__(self) -> None:
        method, _, path = self.line.partition(" ")
        object.__setattr__(self, "http_method", method)
        object.__setattr__(self, "template", parse(path))

    @property
    def name(self) -> str:
        return f"rpc {self.line}"


ROUTES = [
    "GET /v1/orders",
    "POST /v1/orders",
    "GET /v1/orders/{order_id}",
    "PATCH /v1/orders/{order.order_id}",
    "POST /v1/orders/{order_id}:cancel",
    "GET /v1/orders/{order_id}:watch",
    "GET /v1/orders/{order_id}/payment",
    "GET /v1/orders/special",
    "GET /v1/orders/special/{x}/deep",
    "POST /v1/products:import",
    "GET /v1/{name=files/**}",
    "GET /v1/{name=files/**}:stat",
    "GET /v1/files/readme",
    "* /v1/any",
    "LINK /v1/linked",
]


def router() -> Router[Entry]:
    made: Router[Entry] = Router()
    for line in ROUTES:
        made.add(Entry(line))
    return made


@pytest.mark.parametrize(
    ("request_line", "route"),
    [
        ("GET /v1/orders", "GET /v1/orders"),
        ("HEAD /v1/orders", "GET /v1/orders"),
        ("GET /v1/orders/o-1", "GET /v1/orders/{order_id}"),
        ("PATCH /v1/orders/o-1", "PATCH /v1/orders/{order.order_id}"),
        ("POST /v1/orders/o-1:cancel", "POST /v1/orders/{order_id}:cancel"),
        ("GET /v1/orders/o-1:watch", "GET /v1/orders/{order_id}:watch"),
        ("GET /v1/orders/o:1:watch", "GET /v1/orders/{order_id}:watch"),
        # A ':' is a verb only where a route has it, and never when it was encoded.
        ("GET /v1/orders/o-1:unknown", "GET /v1/orders/{order_id}"),
        ("GET /v1/orders/o-1%3Awatch", "GET /v1/orders/{order_id}"),
        ("GET /v1/orders/:watch", "GET /v1/orders/{order_id}"),
        # A literal beats a variable, unless it leads nowhere.
        ("GET /v1/orders/special", "GET /v1/orders/special"),
        ("GET /v1/orders/sp%65cial", "GET /v1/orders/special"),
        ("PATCH /v1/orders/special", "PATCH /v1/orders/{order.order_id}"),
        ("GET /v1/orders/special/payment", "GET /v1/orders/{order_id}/payment"),
        ("GET /v1/orders/a%2Fb", "GET /v1/orders/{order_id}"),
        ("POST /v1/products:import", "POST /v1/products:import"),
        ("GET /v1/files", "GET /v1/{name=files/**}"),
        ("GET /v1/files/a/b", "GET /v1/{name=files/**}"),
        ("GET /v1/files/a/b:stat", "GET /v1/{name=files/**}:stat"),
        ("GET /v1/files/readme", "GET /v1/files/readme"),
        ("BREW /v1/any", "* /v1/any"),
        ("LINK /v1/linked", "LINK /v1/linked"),
        ("GET /nowhere", 404),
        ("GET /v1/orders/", 404),
        ("GET /v1//orders", 404),
        ("GET /v1/orders/o-1/", 404),
        ("GET v1/orders", 404),
        ("DELETE /v1/orders", "GET, POST, HEAD, OPTIONS"),
        ("GET /v1/orders/o-1:cancel", "POST, OPTIONS"),
        ("OPTIONS /v1/orders/o-1", "GET, HEAD, PATCH, OPTIONS"),
    ],
)
def test_the_most_specific_route_answers(request_line: str, route: str | int) -> None:
    method, _, path = request_line.partition(" ")
    try:
        found: str | int = router().find(method, path)[0].line
    except NoRoute:
        found = 404
    except WrongMethod as error:
        found = ", ".join(error.allow)

    if isinstance(route, str) and ", " in route:
        assert sorted(str(found).split(", ")) == sorted(route.split(", "))
    else:
        assert found == route


@pytest.mark.parametrize(
    "line",
    [
        "GET /v1/orders/{id}",
        "GET /v1/orders/*",
        "GET /v1/orders/{a.b=*}",
        "POST /v1/products:import",
    ],
)
def test_two_routes_for_the_same_paths_are_refused_with_both_names(line: str) -> None:
    made = router()

    with pytest.raises(Ambiguous, match=r"rpc .* is also .* rpc"):
        made.add(Entry(line))
