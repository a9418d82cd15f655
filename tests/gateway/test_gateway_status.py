"""Statuses as HTTP answers."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import any_pb2, descriptor_pool, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from gateway.codec import Codec
from gateway.invalid import Invalid
from gateway.status import Problem, from_invalid, from_rpc

CODEC = Codec(descriptor_pool.DescriptorPool(), descriptor_pool.Default())


def failed(code: grpc.StatusCode, message: str = "", *details: Any) -> Problem:
    trailing = grpc.aio.Metadata()
    if details:
        status = status_pb2.Status(code=code.value[0], message=message)
        for detail in details:
            if isinstance(detail, any_pb2.Any):
                status.details.append(detail)
            else:
                status.details.add().Pack(detail)
        trailing.add("grpc-status-details-bin", status.SerializeToString())
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=message)
    return from_rpc(error, CODEC, "m")


@pytest.mark.parametrize(
    ("code", "http"),
    [
        ("CANCELLED", 499),
        ("UNKNOWN", 500),
        ("INVALID_ARGUMENT", 400),
        ("DEADLINE_EXCEEDED", 504),
        ("NOT_FOUND", 404),
        ("ALREADY_EXISTS", 409),
        ("PERMISSION_DENIED", 403),
        ("RESOURCE_EXHAUSTED", 429),
        ("FAILED_PRECONDITION", 400),
        ("ABORTED", 409),
        ("OUT_OF_RANGE", 400),
        ("UNIMPLEMENTED", 501),
        ("INTERNAL", 500),
        ("UNAVAILABLE", 503),
        ("DATA_LOSS", 500),
        ("UNAUTHENTICATED", 401),
    ],
)
def test_every_code_has_its_http_status_and_an_error_info(code: str, http: int) -> None:
    problem = failed(grpc.StatusCode[code], "said")
    body = problem.as_status()

    assert problem.http == http
    assert body["code"] == grpc.StatusCode[code].value[0]
    assert body["details"][0]["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"


@pytest.mark.parametrize(
    ("delay", "header"), [(0, "1"), (1, "1"), (1_000_000_001, "2"), (59_000_000_000, "59")]
)
def test_retry_after_is_whole_seconds_rounded_up_and_at_least_one(delay: int, header: str) -> None:
    info = error_details_pb2.RetryInfo(
        retry_delay=duration_pb2.Duration(seconds=delay // 10**9, nanos=delay % 10**9)
    )

    problem = failed(grpc.StatusCode.RESOURCE_EXHAUSTED, "later", info)

    assert dict(problem.headers)["retry-after"] == header


def test_unavailable_always_says_when_to_come_back() -> None:
    assert dict(failed(grpc.StatusCode.UNAVAILABLE).headers)["retry-after"] == "1"


def test_unauthenticated_says_how_to_authenticate_and_not_why_it_failed() -> None:
    problem = failed(grpc.StatusCode.UNAUTHENTICATED, "key 17 expired")

    assert dict(problem.headers)["www-authenticate"] == "Bearer"


def test_a_reused_idempotency_key_is_422() -> None:
    info = error_details_pb2.ErrorInfo(reason="IDEMPOTENCY_KEY_REUSED", domain="proxyless")

    assert failed(grpc.StatusCode.INVALID_ARGUMENT, "reused", info).http == 422


def test_a_detail_of_unknown_type_is_shown_as_base64() -> None:
    unknown = any_pb2.Any(type_url="type.googleapis.com/no.Such", value=b"\x01\xff")

    details = failed(grpc.StatusCode.NOT_FOUND, "x", unknown).as_status()["details"]

    assert details[0] == {"@type": "type.googleapis.com/no.Such", "value": "Af8="}


def test_a_detail_that_is_broken_is_shown_as_base64() -> None:
    broken = any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff")

    assert (
        failed(grpc.StatusCode.NOT_FOUND, "x", broken).as_status()["details"][0]["value"] == "/w=="
    )


@pytest.mark.parametrize("code", ["UNKNOWN", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"])
def test_what_a_library_says_about_hosts_and_exceptions_stays_inside(code: str) -> None:
    problem = failed(grpc.StatusCode[code], "ipv4:10.0.0.7:50051: RuntimeError('hunter2')")

    assert "hunter2" not in str(problem.as_status())
    assert "10.0.0.7" not in str(problem.as_status())


def test_what_a_service_composed_is_shown_as_it_is() -> None:
    info = error_details_pb2.ErrorInfo(reason="DISK_FULL", domain="shop")

    assert failed(grpc.StatusCode.INTERNAL, "no room", info).as_status()["message"] == "no room"


def test_problem_json_is_answered_when_accept_asks_for_it() -> None:
    problem = failed(grpc.StatusCode.NOT_FOUND, "no order")

    media_type, body = problem.body("application/problem+json, */*")

    assert media_type == "application/problem+json"
    assert b'"title":"Not Found"' in body
    assert problem.body("*/*")[0] == "application/json"


def test_invalid_names_each_field_that_the_caller_wrote() -> None:
    problem = from_invalid(Invalid.several([Invalid("no such field", "a.b"), Invalid("bad", "c")]))
    bad_request = problem.as_status()["details"][1]

    assert problem.http == 400
    assert bad_request["fieldViolations"] == [
        {"field": "a.b", "description": "no such field"} | _rest(bad_request, 0),
        {"field": "c", "description": "bad"} | _rest(bad_request, 1),
    ]


def _rest(bad_request: Any, index: int) -> dict[str, Any]:
    """What newer google.rpc adds to a violation, empty here."""
    violation = bad_request["fieldViolations"][index]
    return {k: v for k, v in violation.items() if k not in ("field", "description")}
