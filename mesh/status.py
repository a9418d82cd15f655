"""
Errors as google.rpc.Status and back, and codes as grpc's and back: what clients and servers share.

    MeshError --to_status--> google.rpc.Status --to_trailing--> grpc-status-details-bin
    trailing metadata --from_trailing--> google.rpc.Status --from_status--> StatusError

Every status that leaves carries google.rpc.ErrorInfo (AIP-193), and fits into the trailers that
clients take.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import grpc
from google.protobuf import any_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from mesh.errors import Code, MeshError, StatusError

DETAILS_KEY = "grpc-status-details-bin"
DOMAIN = MeshError.domain

# The ErrorInfo reason, in this domain, of a server that is about to stop: it accepts no new calls,
# and no handler has seen this one.  Reasons that begin like it speak of who answers: nobody passes
# them on as his own.
OWN_REASONS = "SERVER_"
DRAINING = "SERVER_DRAINING"
STOPPING = "SERVER_STOPPING"

# A client refuses trailers above 8 KiB (grpc's soft limit for metadata), base64 included.
MAX_STATUS_BYTES = 4096
MAX_MESSAGE_CHARACTERS = 1024

GRPC_CODES: dict[Code, grpc.StatusCode] = {Code(each.value[0]): each for each in grpc.StatusCode}
CODES: dict[grpc.StatusCode, Code] = {each: code for code, each in GRPC_CODES.items()}

M = TypeVar("M", bound=Message)
Pairs = tuple[tuple[str, str | bytes], ...]
Trailing = Iterable[tuple[str, str | bytes]] | None


# -- out


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


def to_trailing(error: MeshError) -> Pairs:
    """The trailing metadata that carries *error*."""
    return ((DETAILS_KEY, to_status(error).SerializeToString()),)


# -- in


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
