"""Path, query and body become one message, or an error in the caller's words."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.bind import Binder
from gateway.contract import Contract
from gateway.invalid import Invalid
from gateway.router import Router
from gateway.routes import Route, RouteError, routes
from tests.gateway import kitchen


def bind(contract: Contract, line: str, body: bytes = b"") -> tuple[Any, Contract]:
    router: Router[Route] = Router()
    for rpc in contract.rpcs.values():
        for route in routes(rpc, "t"):
            router.add(route)
    method, _, url = line.partition(" ")
    path, _, query = url.partition("?")
    route, segments = router.find(method, path)
    return Binder(route).bind(segments, query, body), contract


def given(contract: Contract, line: str, body: bytes = b"") -> dict[str, Any]:
    """What the message holds, without its defaults."""
    message, contract = bind(contract, line, body)
    written: dict[str, Any] = _pruned(contract.codec.write(message))
    return written


EMPTY = ("", [], {}, 0, False, "0", None, "COLOR_UNSPECIFIED")


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: _pruned(v) for k, v in value.items()}
        return {k: v for k, v in kept.items() if v not in EMPTY}
    return [_pruned(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("stringOne=a+b%2Bc", {"stringOne": "a b+c"}),
        ("string_one=x&int32_one=-5", {"stringOne": "x", "int32One": -5}),
        ("stringMany=a&string_many=b&stringMany=", {"stringMany": ["a", "b", ""]}),
        ("int64_one=9007199254740993", {"int64One": "9007199254740993"}),
        ("boolOne=true", {"boolOne": True}),
        ("boolOne=false", {}),
        (
            "color=CRIMSON&colors=RED&colors=-1&colors=7",
            {"color": "RED", "colors": ["RED", "MINUS", 7]},
        ),
        ("plate.name=p&plate.on.size=3", {"plate": {"name": "p", "on": {"size": "3"}}}),
        ("stringToString[a]=1&string_to_string[b]=2", {"stringToString": {"a": "1", "b": "2"}}),
        ("boolToInt64[true]=5", {"boolToInt64": {"true": "5"}}),
        ("time=2026-01-02T03:04:05Z", {"time": "2026-01-02T03:04:05Z"}),
        ("span=1.5s", {"span": "1.500s"}),
        ("mask=a,bC&stringOne=x", {"mask": "a,bC", "stringOne": "x"}),
        ("mask=b_c,d.e_f", {"mask": "bC,d.eF"}),
        ("int32Box=7&boolBox=true", {"int32Box": 7, "boolBox": True}),
        ("doubleOne=1.5&floatOne=NaN", {"doubleOne": 1.5, "floatOne": "NaN"}),
        ("bytesOne=AQI", {"bytesOne": "AQI="}),
        ("maybe=", {}),
        ("&&stringOne=x&", {"stringOne": "x"}),
        ("", {}),
    ],
)
def test_a_query_parameter_is_read_by_its_field_s_type(query: str, expected: Any) -> None:
    assert given(kitchen.contract(), f"GET /query?{query}") == expected


@pytest.mark.parametrize(
    ("query", "field", "why"),
    [
        ("nope=1", "nope", "no such parameter"),
        ("plate.nope=1", "plate.nope", "no such parameter"),
        ("stringOne.x=1", "stringOne.x", "no such parameter"),
        ("plates.name=1", "plates.name", "no such parameter"),
        ("plate=x", "plate", "is a message"),
        ("plates=x", "plates", "is a message"),
        ("free=x", "free", "is a message"),
        ("stringToString=x", "stringToString", "is a map"),
        ("stringToString.key=x", "stringToString.key", "no such parameter"),
        ("stringOne[a]=x", "stringOne[a]", "is not a map"),
        ("stringToString[a]=1&stringToString[a]=2", "stringToString[a]", "given twice"),
        ("stringOne=a&stringOne=a", "stringOne", "given twice"),
        ("string_one=a&stringOne=a", "stringOne", "given twice"),
        ("boolOne=1", "boolOne", "not true or false"),
        ("boolOne=True", "boolOne", "not true or false"),
        ("boolOne=", "boolOne", "not true or false"),
        ("int32One=", "int32One", "not an int32"),
        ("int32One=x", "int32One", "not an int32"),
        ("int32One=%205", "int32One", "not an int32"),
        ("color=PUCE", "color", "not a value of Color"),
        ("time=yesterday", "time", "not a time"),
        ("span=1h30m", "span", "not a duration"),
        ("left=a&right=1", "right", "cannot be given together"),
        ("stringOne=%zz", "stringOne", "not percent-encoded"),
        ("stringOne=%ff", "stringOne", "not percent-encoded"),
        ("stringOne", "", ""),
    ],
)
def test_a_query_that_cannot_be_read_names_the_parameter(query: str, field: str, why: str) -> None:
    if not field:
        assert given(kitchen.contract(), f"GET /query?{query}") == {}
        return
    with pytest.raises(Invalid) as caught:
        bind(kitchen.contract(), f"GET /query?{query}")

    assert caught.value.field == field
    assert why in caught.value.why


def test_all_unknown_parameters_are_named_at_once_and_no_other_field() -> None:
    with pytest.raises(Invalid) as caught:
        bind(kitchen.contract(), "GET /query?foo=1&stringOne=x&bar.baz=2")

    assert caught.value.violations == [
        ("foo", "no such parameter"),
        ("bar.baz", "no such parameter"),
    ]


def test_path_variables_are_read_by_their_field_s_type() -> None:
    path = "/path/a%2Fb+c/-7/CRIMSON/true/2026-01-02T03:04:05Z/p"

    assert given(kitchen.contract(), f"GET {path}") == {
        "stringOne": "a/b+c",
        "int32One": -7,
        "color": "RED",
        "boolOne": True,
        "time": "2026-01-02T03:04:05Z",
        "plate": {"name": "p"},
    }


def test_a_path_variable_that_cannot_be_read_names_the_field() -> None:
    with pytest.raises(Invalid) as caught:
        bind(kitchen.contract(), "GET /path/a/x/RED/true/2026-01-02T03:04:05Z/p")

    assert caught.value.violations == [("int32_one", '"x" is not an int32')]


@pytest.mark.parametrize(
    ("line", "body", "expected"),
    [
        ("POST /body/x", b"", {"stringOne": "x"}),
        ("POST /body/x", b"{}", {"stringOne": "x"}),
        ("POST /body/x", b'{"stringOne": "x", "int32One": 1}', {"stringOne": "x", "int32One": 1}),
        ("POST /body/x", b'{"stringOne": null}', {"stringOne": "x"}),
        ("POST /many", b"[]", {}),
        ("POST /many", b'[{"name": "a"}, {}]', {"plates": [{"name": "a"}, {}]}),
        ("POST /many?stringOne=x", b"[]", {"stringOne": "x"}),
    ],
)
def test_a_body_is_read(line: str, body: bytes, expected: Any) -> None:
    assert given(kitchen.contract(), line, body) == expected


@pytest.mark.parametrize(
    ("line", "body", "field", "why"),
    [
        ("POST /body/x", b"[]", "", "an array and not an object"),
        ("POST /body/x", b"null", "", "null and not an object"),
        ("POST /body/x", b'""', "", '"" and not an object'),
        ("POST /body/x", b'{"stringOne": "y"}', "stringOne", '"y", but "x" in the path'),
        ("POST /body/x", b'{"string_one": "y"}', "string_one", '"y", but "x" in the path'),
        ("POST /body/x", b'{"stringOne": ""}', "stringOne", '"", but "x" in the path'),
        ("POST /body/x?int32One=1", b"{}", "int32One", "the body holds all fields"),
        ("POST /body/x", b'{"nope": 1}', "nope", "no such field"),
        ("POST /many", b"", "", "the body is missing"),
        ("POST /many", b"null", "", "the body is null"),
        ("POST /many", b"{}", "", "not an array"),
        ("POST /many", b'[{"name": 1}]', "[0].name", "not a string"),
        ("POST /many?plates=1", b"[]", "plates", "is given in the body"),
        ("GET /query", b"{}", "", "takes no body"),
    ],
)
def test_a_body_that_cannot_be_read_says_where(
    line: str, body: bytes, field: str, why: str
) -> None:
    with pytest.raises(Invalid) as caught:
        bind(kitchen.contract(), line, body)

    assert (caught.value.field, why in caught.value.why) == (field, True), caught.value.why


@pytest.mark.parametrize(
    ("query", "body", "mask"),
    [
        ("", b'{"note": "x"}', ["note"]),
        ("", b'{"shippingAddress": null, "note": ""}', ["shipping_address", "note"]),
        ("", b'{"shipping_address": "x"}', ["shipping_address"]),
        ("", b'{"status": "ORDER_STATUS_PAID", "note": "x"}', ["note"]),
        ("", b'{"total": {"units": "5"}, "note": "x"}', ["note"]),
        ("", b'{"orderId": "o-1", "note": "x"}', ["note"]),
        ("", b'{"items": [{"quantity": 1}]}', ["items"]),
        ("", b"{}", []),
        ("?updateMask=shippingAddress", b'{"note": "x"}', ["shipping_address"]),
        ("?update_mask=shipping_address,status", b"{}", ["shipping_address", "status"]),
        ("?updateMask=*", b"{}", ["*"]),
    ],
)
def test_patch_infers_its_mask_from_what_the_body_names(
    contract: Contract, query: str, body: bytes, mask: list[str]
) -> None:
    message, _ = bind(contract, f"PATCH /v1/orders/o-1{query}", body)

    assert list(message.update_mask.paths) == mask
    assert message.order.order_id == "o-1"


def test_a_patch_of_another_order_than_the_path_s_is_refused(contract: Contract) -> None:
    with pytest.raises(Invalid) as caught:
        bind(contract, "PATCH /v1/orders/o-1", b'{"orderId": "o-2"}')

    assert caught.value.field == "orderId"


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ({"get": "/x/{nope}"}, "no field 'nope'"),
        ({"get": "/x/{plates}"}, "is repeated"),
        ({"get": "/x/{string_to_string}"}, "is repeated"),
        ({"get": "/x/{plate}"}, "is a message"),
        ({"get": "/x/{string_one.x}"}, "no field 'string_one.x'"),
        ({"get": "x"}, "position 0"),
        ({"post": "/x", "body": "nope"}, "no field 'nope'"),
        ({"post": "/x", "body": "plate.name"}, "no field 'plate.name'"),
        ({"get": "/x", "response_body": "nope"}, "response_body"),
        ({}, "has no path"),
    ],
)
def test_an_annotation_that_cannot_work_is_refused_when_it_is_loaded(
    rule: dict[str, str], why: str
) -> None:
    from dataclasses import replace

    from google.api import annotations_pb2, http_pb2
    from google.protobuf import descriptor_pb2

    options = descriptor_pb2.MethodOptions()
    options.Extensions[annotations_pb2.http].CopyFrom(http_pb2.HttpRule(**rule))
    rpc = replace(kitchen.contract().rpcs["kitchen.Kitchen.Query"], options=options)

    with pytest.raises(RouteError, match=r"kitchen\.Kitchen\.Query: .*") as caught:
        list(routes(rpc, "t"))

    assert why in str(caught.value)
