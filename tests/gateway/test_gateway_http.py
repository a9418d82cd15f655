"""The gateway over real sockets, unary calls: what a client of the shop's REST API sees."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from typing import Any

import pytest

ORDER = {"customerId": "c-1", "items": [{"product_id": "p-1", "quantity": 2}]}
AS_JSON = {"Content-Type": "application/json"}


def reason(body: Any) -> str:
    return str(body["details"][0]["reason"])


async def test_an_order_is_answered_as_json(shop: Any) -> None:
    status, body, headers = await shop.ask("GET", "/v1/orders/o%2Fx")

    assert (status, body["orderId"], body["note"], body["items"]) == (200, "o/x", "hello", [])
    assert headers["content-type"] == "application/json"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["idempotent-replayed"] == "true"
    assert headers["grpc-metadata-x-from"] == "here"


async def test_an_order_is_created_from_its_json_and_the_query(shop: Any) -> None:
    status, body, _ = await shop.ask("POST", "/v1/orders?wait=true&request_id=r", json=ORDER)

    assert (status, body["status"]) == (200, "ORDER_STATUS_PENDING")
    assert (shop.orders.calls[-1].wait, shop.orders.calls[-1].request_id) == (True, "r")


async def test_empty_lists_and_strings_are_printed(shop: Any) -> None:
    assert (await shop.ask("GET", "/v1/orders"))[1] == {"orders": [], "nextPageToken": ""}


async def test_headers_of_the_allow_list_reach_the_service(shop: Any) -> None:
    given = {
        "Idempotency-Key": "k-1",
        "Authorization": "Bearer t",
        "Grpc-Metadata-Color": "red",
        "Cookie": "secret",
        "X-Envoy-Upstream-Rq-Timeout-Ms": "1",
    }
    await shop.ask("GET", "/v1/orders/o-1", headers=given)
    seen = shop.orders.metadata[-1]

    assert (seen["idempotency-key"], seen["authorization"]) == ("k-1", "Bearer t")
    assert (seen["color"], seen["x-forwarded-for"]) == ("red", "127.0.0.1")
    assert not {"cookie", "x-envoy-upstream-rq-timeout-ms"} & seen.keys()


@pytest.mark.parametrize(
    ("line", "status", "expected"),
    [
        ("GET /v1/orders/missing", 404, "ORDER_NOT_FOUND"),
        ("GET /v1/orders/busy", 409, "IDEMPOTENCY_IN_PROGRESS"),
        ("GET /v1/orders/reused", 422, "IDEMPOTENCY_KEY_REUSED"),
        ("GET /v1/orders/UNAUTHENTICATED", 401, "UNAUTHENTICATED"),
        ("GET /v1/orders/RESOURCE_EXHAUSTED", 429, "RESOURCE_EXHAUSTED"),
        ("GET /v1/orders/UNIMPLEMENTED", 501, "UNIMPLEMENTED"),
        ("GET /nowhere", 404, "NO_ROUTE"),
        ("GET /", 404, "NO_ROUTE"),
        ("DELETE /v1/orders/o-1", 405, "METHOD_NOT_ALLOWED"),
        ("GET /v1/orders/o-1:cancel", 405, "METHOD_NOT_ALLOWED"),
        ("POST /healthz", 405, "METHOD_NOT_ALLOWED"),
        ("GET /v1/orders/%zz", 400, "INVALID_PATH"),
        ("GET /v1/orders?nope=1", 400, "UNKNOWN_PARAMETER"),
        ("GET /v1/notifications:subscribe", 426, "UPGRADE_REQUIRED"),
    ],
)
async def test_every_refusal_says_what_it_is(
    shop: Any, line: str, status: int, expected: str
) -> None:
    method, _, path = line.partition(" ")
    got, body, _ = await shop.ask(method, path)

    assert (got, reason(body)) == (status, expected)


async def test_errors_carry_the_headers_that_go_with_them(shop: Any) -> None:
    _, _, busy = await shop.ask("GET", "/v1/orders/busy")
    _, _, unauthenticated = await shop.ask("GET", "/v1/orders/UNAUTHENTICATED")
    _, _, wrong = await shop.ask("DELETE", "/v1/orders/o-1")

    assert busy["retry-after"] == "1"
    assert unauthenticated["www-authenticate"] == "Bearer"
    assert sorted(wrong["allow"].split(", ")) == ["GET", "HEAD", "OPTIONS", "PATCH"]


async def test_a_detail_of_unknown_type_is_no_500(shop: Any) -> None:
    status, body, _ = await shop.ask("GET", "/v1/orders/strange")

    assert status == 400
    assert {"@type": "type.googleapis.com/no.Such", "value": "AQI="} in body["details"]


async def test_an_exception_in_a_service_leaks_nothing(shop: Any) -> None:
    status, body, _ = await shop.ask("GET", "/v1/orders/leaky")

    assert status == 500
    assert "hunter2" not in json.dumps(body)
    assert "RuntimeError" not in json.dumps(body)


async def test_problem_json_is_given_to_who_accepts_it(shop: Any) -> None:
    accept = {"Accept": "application/problem+json"}
    status, body, headers = await shop.ask("GET", "/v1/orders/missing", headers=accept)

    assert (status, headers["content-type"]) == (404, "application/problem+json")
    assert (body["status"], body["title"], body["code"]) == (404, "Not Found", "NOT_FOUND")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"nope": 1}', "nope"),
        (b'{"items": [{"quantity": "x"}]}', "items[0].quantity"),
        (b'{"customerId": "a", "customer_id": "a"}', "customer_id"),
        (b'{"note": "a", "note": "b"}', "note"),
        (b"[]", ""),
        (b"null", ""),
        (b'""', ""),
        (b"", ""),
        (b"{", ""),
        (b"\xff", ""),
    ],
)
async def test_a_bad_body_is_400_and_names_the_field(shop: Any, body: bytes, field: str) -> None:
    got, answer, _ = await shop.ask("POST", "/v1/orders", data=body, headers=AS_JSON)

    assert got == 400
    assert answer["details"][1]["fieldViolations"][0]["field"] == field


async def test_head_is_get_without_its_body_and_options_names_the_methods(shop: Any) -> None:
    status, body, headers = await shop.ask("HEAD", "/v1/orders/o-1")
    told, _, allowed = await shop.ask("OPTIONS", "/v1/orders/o-1")

    assert (status, body, headers["content-type"]) == (200, "", "application/json")
    assert int(headers["content-length"]) > 0
    assert (told, sorted(allowed["allow"].split(", "))) == (
        204,
        ["GET", "HEAD", "OPTIONS", "PATCH"],
    )


async def test_a_body_over_the_limit_is_413(shop: Any) -> None:
    big = b'{"note": "' + b"x" * (4 * 1024 * 1024) + b'"}'

    async def chunks() -> Any:
        for at in range(0, len(big), 65536):
            yield big[at : at + 65536]

    said, body, _ = await shop.ask("POST", "/v1/orders", data=io.BytesIO(big))
    streamed, _, _ = await shop.ask("POST", "/v1/orders", data=chunks())

    assert (said, streamed, reason(body)) == (413, 413, "BODY_TOO_LARGE")


async def test_a_gzip_bomb_is_413_and_honest_gzip_is_read(shop: Any) -> None:
    packed = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    bomb = gzip.compress(b'{"note": "' + b"x" * (64 * 1024 * 1024) + b'"}')
    honest = gzip.compress(json.dumps(ORDER).encode())

    assert (await shop.ask("POST", "/v1/orders", data=bomb, headers=packed))[0] == 413
    assert (await shop.ask("POST", "/v1/orders", data=honest, headers=packed))[0] == 200
    assert (await shop.ask("POST", "/v1/orders", data=honest[:-4], headers=packed))[0] == 400


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("Content-Type", "text/plain", 415),
        ("Content-Type", "application/json; charset=utf-8", 200),
        ("Content-Type", "application/merge-patch+json", 200),
        ("Content-Encoding", "br", 415),
        ("Grpc-Timeout", "5x", 400),
        ("Grpc-Metadata-Connection", "close", 400),
        ("X-Filler", "x" * 40_000, 431),
    ],
)
async def test_a_header_that_cannot_be_obeyed_is_refused(
    shop: Any, header: str, value: str, status: int
) -> None:
    body = json.dumps(ORDER)
    headers = {**AS_JSON, header: value}
    got, _, _ = await shop.ask("POST", "/v1/orders", data=body, headers=headers)

    assert got == status


async def test_grpc_timeout_bounds_the_call(shop: Any) -> None:
    status, body, _ = await shop.ask("GET", "/v1/orders/slow", headers={"Grpc-Timeout": "50m"})

    assert (status, body["code"]) == (504, 4)


async def test_a_client_that_leaves_cancels_the_call(shop: Any) -> None:
    task = asyncio.ensure_future(shop.ask("GET", "/v1/orders/slow"))
    await asyncio.wait_for(shop.orders.entered.wait(), 5)
    task.cancel()

    await asyncio.wait_for(shop.orders.left.wait(), 5)


async def test_products_are_imported_from_an_array_and_from_lines(shop: Any) -> None:
    products = [{"productId": f"p-{n}"} for n in range(3)]
    lines = "\n".join(map(json.dumps, products)).encode()
    ndjson = {"Content-Type": "application/x-ndjson"}

    array = await shop.ask("POST", "/v1/products:import", json=products)
    streamed = await shop.ask("POST", "/v1/products:import", data=lines, headers=ndjson)
    broken = await shop.ask(
        "POST", "/v1/products:import", data=lines + b'\n{"nope": 1}', headers=ndjson
    )

    assert array[:2] == streamed[:2] == (200, {"importedCount": 3})
    asked = await shop.ask("POST", "/v1/products:import?x=1&y", data=lines, headers=ndjson)

    assert broken[0] == 400
    assert broken[1]["details"][1]["fieldViolations"][0]["field"] == "[3].nope"
    assert [each["field"] for each in asked[1]["details"][1]["fieldViolations"]] == ["x", "y"]


async def test_health_and_readiness(shop: Any) -> None:
    assert (await shop.ask("GET", "/healthz"))[0] == 200
    assert (await shop.ask("GET", "/readyz"))[1] == {
        "status": "ready",
        "services": sorted(("orders", "payments", "inventory", "notifications")),
    } | {"services": list(shop.gateway.app.catalog.services)}


async def test_the_summary_has_all_three_parts(shop: Any) -> None:
    status, body, _ = await shop.ask("GET", "/v1/orders/o-1/summary")

    assert status == 200
    assert body["order"]["orderId"] == "o-1"
    assert body["payment"]["paymentId"] == "p-1"
    assert body["reservation"]["reservationId"] == "r-1"
    assert body["missing"] == []


async def test_a_part_that_cannot_be_had_stands_in_missing(shop: Any) -> None:
    _, unpaid, _ = await shop.ask("GET", "/v1/orders/unpaid/summary")
    status, slow, _ = await shop.ask("GET", "/v1/orders/slowpay/summary")

    assert unpaid["payment"] is None
    assert unpaid["missing"] == [{"part": "payment", "code": "NOT_FOUND", "message": "no payment"}]
    assert (status, [m["code"] for m in slow["missing"]]) == (200, ["DEADLINE_EXCEEDED"])
    assert slow["reservation"]["reservationId"] == "r-1"


async def test_a_page_without_what_it_needs_is_that_error(shop: Any) -> None:
    status, body, _ = await shop.ask("GET", "/v1/orders/missing/summary")

    assert (status, reason(body)) == (404, "ORDER_NOT_FOUND")
    assert (await shop.ask("GET", "/v1/orders/o-1/summary?x=1"))[0] == 400


async def test_a_page_s_branches_are_told_what_an_rpc_is(shop: Any) -> None:
    headers = {
        "Authorization": "Bearer t",
        "X-Request-Id": "r-1",
        "Grpc-Metadata-Color": "red",
        "Grpc-Metadata-Raw-Bin": "AQI=",
        "Idempotency-Key": "k",
        "Cookie": "secret",
    }
    status, _, _ = await shop.ask("GET", "/v1/orders/o-1/summary", headers=headers)
    seen = shop.orders.metadata[-1]

    assert status == 200
    assert (seen["authorization"], seen["x-request-id"]) == ("Bearer t", "r-1")
    assert (seen["color"], seen["raw-bin"]) == ("red", b"\x01\x02")
    assert not {"cookie", "idempotency-key"} & seen.keys()


async def test_a_page_takes_no_longer_than_it_is_given(shop: Any) -> None:
    late = await shop.ask("GET", "/v1/orders/slow/summary", headers={"Grpc-Timeout": "50m"})
    wrong = await shop.ask("GET", "/v1/orders/o-1/summary", headers={"Grpc-Timeout": "5x"})

    assert (late[0], wrong[0]) == (504, 400)
