"""
A gRPC status as an HTTP answer, by one table.

The body is google.rpc.Status as JSON, or RFC 9457's problem when Accept asks for it; either
carries an ErrorInfo.  A status that came with details was composed by its service and is shown as
it is; one without may have been made by a library, and its text may name hosts, files or
exceptions: where that is likely the gateway says it in its own words and logs the original.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

import grpc.aio
from google.protobuf import any_pb2, descriptor_pool
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from gateway.accept import names
from gateway.codec import Codec
from gateway.invalid import Invalid
from gateway.jsontext import dumps
from mesh.errors import Code

log = logging.getLogger(__name__)

DOMAIN = "proxyless"
DETAILS_KEY = "grpc-status-details-bin"
HTTP = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
# A reason that is more exact than its code.
HTTP_BY_REASON = {(DOMAIN, "IDEMPOTENCY_KEY_REUSED"): 422}
# What the gateway says where a status without details may give something away.
GUARDED = {
    Code.UNKNOWN: "the service failed",
    Code.INTERNAL: "the service failed",
    Code.DATA_LOSS: "the service lost data",
    Code.UNAVAILABLE: "the service is not available",
}
_default = Codec(descriptor_pool.Default())


class Problem(Exception):
    """What an answer that is no success says; `http` is its status line's number."""

    def __init__(
        self, status: Any, http: int, headers: tuple[tuple[str, str], ...], codec: Codec
    ) -> None:
        super().__init__(f"{http} {status.message}")
        self.status = status
        self.http = http
        self.headers = headers
        self.codec = codec

    @property
    def code(self) -> Code:
        return Code(self.status.code)

    def as_status(self) -> dict[str, Any]:
        """The JSON of google.rpc.Status."""
        details = [_detail(self.codec, detail) for detail in self.status.details]
        return {"code": self.status.code, "message": self.status.message, "details": details}

    def as_problem(self) -> dict[str, Any]:
        """RFC 9457's problem details, with the status beside them."""
        return {
            "type": "about:blank",
            "title": _phrase(self.http),
            "status": self.http,
            "detail": self.status.message,
            "code": self.code.name,
            "details": self.as_status()["details"],
        }

    def body(self, accept: str) -> tuple[str, bytes]:
        """Content type and body, by the request's Accept."""
        if names(accept, "application/problem+json"):
            return "application/problem+json", dumps(self.as_problem())
        return "application/json", dumps(self.as_status())


def problem(
    code: Code,
    message: str,
    *,
    reason: str,
    http: int | None = None,
    violations: Sequence[tuple[str, str]] = (),
    retry_after: float | None = None,
    headers: Iterable[tuple[str, str]] = (),
) -> Problem:
    """An answer of the gateway's own."""
    details: list[Any] = [error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)]
    if violations:
        bad = error_details_pb2.BadRequest()
        for name, why in violations:
            bad.field_violations.add(field=name, description=why)
        details.append(bad)
    if retry_after is not None:
        info = error_details_pb2.RetryInfo()
        info.retry_delay.FromMilliseconds(round(retry_after * 1000))
        details.append(info)
    status = status_pb2.Status(code=int(code), message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return _answer(status, http, tuple(headers), _default)


def from_invalid(error: Invalid) -> Problem:
    """400, naming what is wrong with which field."""
    return problem(
        Code.INVALID_ARGUMENT, str(error), reason=error.reason, violations=error.violations
    )


def from_rpc(error: grpc.aio.AioRpcError, codec: Codec, method: str = "") -> Problem:
    """What a failed call answers, its details read with the service's own types."""
    code = Code(error.code().value[0])
    status = _details(error, code)
    if status is None:
        message = error.details() or code.name
        if code in GUARDED:
            log.warning("%s answered %s without details: %s", method, code.name, message)
            message = GUARDED[code]
        status = status_pb2.Status(code=int(code), message=message)
    if not any(detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR) for detail in status.details):
        packed = any_pb2.Any()
        packed.Pack(error_details_pb2.ErrorInfo(reason=code.name, domain=DOMAIN))
        status.details.append(packed)
    return _answer(status, None, (), codec)


def _details(error: grpc.aio.AioRpcError, code: Code) -> Any:
    """The google.rpc.Status that came with the error; None when none did or it is another's."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                status = status_pb2.Status.FromString(value)
            except DecodeError:
                return None
            return status if status.code == code and status.details else None
    return None


def _answer(
    status: Any, http: int | None, headers: tuple[tuple[str, str], ...], codec: Codec
) -> Problem:
    number = HTTP[Code(status.code)]
    retry: float | None = None
    for detail in status.details:
        info, delay = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        try:
            if detail.Unpack(info):
                number = HTTP_BY_REASON.get((info.domain, info.reason), number)
            elif detail.Unpack(delay):
                retry = delay.retry_delay.seconds + delay.retry_delay.nanos / 1e9
        except DecodeError:
            continue
    number = number if http is None else http
    if retry is None and number == HTTPStatus.SERVICE_UNAVAILABLE:
        retry = 1.0
    if retry is not None:
        headers = (*headers, ("retry-after", str(max(1, math.ceil(retry)))))
    if number == HTTPStatus.UNAUTHORIZED and "www-authenticate" not in dict(headers):
        headers = (*headers, ("www-authenticate", "Bearer"))
    return Problem(status, number, headers, codec)


def _detail(codec: Codec, detail: Any) -> Any:
    try:
        return codec.write(detail)
    except ValueError:  # a detail that holds what JSON cannot say: shown as one of unknown type
        return Codec(descriptor_pool.DescriptorPool()).write(detail)


def _phrase(number: int) -> str:
    try:
        return HTTPStatus(number).phrase
    except ValueError:
        return "Client Closed Request" if number == HTTP[Code.CANCELLED] else "Error"
