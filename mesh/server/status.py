"""
Errors to google.rpc.Status and back: the one edge where they change shape.

    handler raises -> translate() -> MeshError -> to_status() -> grpc-status-details-bin
    trailing metadata -> from_trailing() -> google.rpc.Status -> error_info(), retry_after()

Two rules for a changer: text of an exception that was not written for callers never leaves the
process, and every status that leaves carries google.rpc.ErrorInfo (AIP-193).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import grpc
from google.protobuf import any_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from mesh.errors import CallFailed, Code, MeshError, Rejected, StatusError

DETAILS_KEY = "grpc-status-details-bin"
DOMAIN = "proxyless"

# A client refuses trailers above 8 KiB (grpc's soft limit for metadata), base64 included.
MAX_STATUS_BYTES = 4096
MAX_MESSAGE_CHARACTERS = 1024

# What a failed call to somebody else means for our own caller.  A status that blames the sender of
# the request blames us, not our caller: INTERNAL.  A handler that means NOT_FOUND says so itself.
DOWNSTREAM: dict[Code, tuple[Code, str]] = {
    Code.UNAVAILABLE: (Code.UNAVAILABLE, "a service needed for this call is unavailable"),
    # A stopping server answers CANCELLED to calls in flight (grpc/grpc#41785); we did not cancel.
    Code.CANCELLED: (Code.UNAVAILABLE, "a service needed for this call is unavailable"),
    Code.DEADLINE_EXCEEDED: (
        Code.DEADLINE_EXCEEDED,
        "a service needed for this call did not answer in time",
    ),
    Code.RESOURCE_EXHAUSTED: (
        Code.RESOURCE_EXHAUSTED,
        "a service needed for this call is overloaded",
    ),
    Code.ABORTED: (Code.ABORTED, "a service needed for this call gave way to another one"),
}

# The same for an error of this process (the database is busy, ...).
PRIVATE: dict[Code, str] = {
    Code.UNAVAILABLE: "temporarily unavailable",
    Code.DEADLINE_EXCEEDED: "not done in time",
    Code.RESOURCE_EXHAUSTED: "overloaded",
    Code.ABORTED: "gave way to another call",
}

M = TypeVar("M", bound=Message)
Trailing = Iterable[tuple[str, str | bytes]] | None


def grpc_code(code: Code) -> grpc.StatusCode:
    return GRPC_CODES[code]


GRPC_CODES: dict[Code, grpc.StatusCode] = {Code(each.value[0]): each for each in grpc.StatusCode}


def translate(error: Exception) -> MeshError:
    """What a caller may know of *error*; a StatusError is already written for them."""
    if isinstance(error, CallFailed):
        return _downstream(error.code, from_trailing(error.trailing))
    if isinstance(error, StatusError | Rejected):
        return error
    if isinstance(error, MeshError):
        return _private(error)
    if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call):
        return _downstream(Code(error.code().value[0]), from_trailing(error.trailing_metadata()))
    if isinstance(error, grpc.aio.AioRpcError):
        trailing = tuple(error.trailing_metadata() or ())
        return _downstream(Code(error.code().value[0]), from_trailing(trailing))
    return StatusError(Code.INTERNAL, "internal error", reason="INTERNAL", domain=DOMAIN)


def _private(error: MeshError) -> StatusError:
    """What may be known of an error inside: not its text, which may name files and hosts."""
    if error.code not in PRIVATE:
        return StatusError(Code.INTERNAL, "internal error", reason="INTERNAL", domain=DOMAIN)
    return StatusError(
        error.code,
        PRIVATE[error.code],
        reason=error.reason or error.code.name,
        domain=error.domain,
        retry_after=error.retry_after,
    )


def _downstream(code: Code, status: status_pb2.Status | None) -> StatusError:
    ours, message = DOWNSTREAM.get(code, (Code.INTERNAL, "internal error"))
    reason = f"DOWNSTREAM_{code.name}" if ours is not Code.INTERNAL else "INTERNAL"
    info = error_info(status)
    # The mesh's own reasons (CIRCUIT_OPEN, NO_ENDPOINT, ...) are public: callers act on them.
    if info is not None and info.domain == DOMAIN and ours is code:
        reason = info.reason
    after = retry_after(status) if ours is not Code.INTERNAL else None
    return StatusError(ours, message, reason=reason, domain=DOMAIN, retry_after=after)


def to_status(error: MeshError) -> status_pb2.Status:
    """The google.rpc.Status of *error*: ErrorInfo first, then BadRequest, RetryInfo, the rest."""
    message = error.message or error.code.name.lower().replace("_", " ")
    status = status_pb2.Status(code=error.code, message=message[:MAX_MESSAGE_CHARACTERS])
    _pack(
        status,
        error_details_pb2.ErrorInfo(
            reason=error.reason or error.code.name, domain=error.domain, metadata=error.metadata
        ),
    )
    fields = error.fields if isinstance(error, StatusError) else ()
    if fields:
        violation = error_details_pb2.BadRequest.FieldViolation
        violations = [violation(field=field, description=why) for field, why in fields]
        _pack(status, error_details_pb2.BadRequest(field_violations=violations))
    if error.retry_after is not None:
        _pack(status, retry_info(error.retry_after))
    for detail in error.details if isinstance(error, StatusError) else ():
        _pack(status, detail)
    return status


def _pack(status: status_pb2.Status, detail: Message) -> None:
    """Add *detail* unless the trailers would grow beyond what clients take."""
    if not status.details or status.ByteSize() + detail.ByteSize() < MAX_STATUS_BYTES:
        status.details.add().Pack(detail)


def retry_info(seconds: float) -> error_details_pb2.RetryInfo:
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromNanoseconds(round(max(0.0, seconds) * 1e9))
    return info


def to_trailing(error: MeshError) -> tuple[tuple[str, str | bytes], ...]:
    """The trailing metadata that carries *error*."""
    return ((DETAILS_KEY, to_status(error).SerializeToString()),)


def from_trailing(trailing: Trailing) -> status_pb2.Status | None:
    """The google.rpc.Status in trailing metadata; None when there is no readable one."""
    for key, value in trailing or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None


def detail(status: status_pb2.Status | None, kind: type[M]) -> M | None:
    """The first detail of *kind*, or None."""
    details: Sequence[object] = status.details if status is not None else ()
    for packed in details:
        found = kind()
        try:
            if packed.Unpack(found):  # type: ignore[attr-defined]
                return found
        except DecodeError:
            continue
    return None


def error_info(status: status_pb2.Status | None) -> error_details_pb2.ErrorInfo | None:
    return detail(status, error_details_pb2.ErrorInfo)


def retry_after(status: status_pb2.Status | None) -> float | None:
    """Seconds of the status's RetryInfo."""
    info = detail(status, error_details_pb2.RetryInfo)
    return None if info is None else float(info.retry_delay.ToNanoseconds()) / 1e9


def from_error(error: grpc.aio.AioRpcError) -> StatusError:
    """An answered error as the StatusError it was."""
    status = from_trailing(tuple(error.trailing_metadata() or ()))
    code = error.code().value[0]
    return from_status(status or status_pb2.Status(code=code, message=error.details() or ""))


def from_status(status: status_pb2.Status) -> StatusError:
    """A status as the StatusError it was; without ErrorInfo the code names the reason."""
    info = error_info(status)
    bad = detail(status, error_details_pb2.BadRequest)
    code = Code(status.code)
    return StatusError(
        code,
        status.message,
        reason=info.reason if info else code.name,
        domain=info.domain if info else "",
        metadata=dict(info.metadata) if info else {},
        fields=[(each.field, each.description) for each in (bad.field_violations if bad else ())],
        retry_after=retry_after(status),
        details=[each for each in map(_known, status.details) if each is not None],
    )


# What StatusError has fields of its own for.
_OWN = frozenset({"google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo"})


def _known(packed: any_pb2.Any) -> Message | None:
    """A further detail unpacked; None for one of our own fields or of a type unknown here."""
    name = packed.TypeName()
    if name in _OWN:
        return None
    try:
        described = descriptor_pool.Default().FindMessageTypeByName(name)
        made: Message = message_factory.GetMessageClass(described).FromString(packed.value)
    except (KeyError, DecodeError):
        return None
    return made
