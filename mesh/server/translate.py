"""
What a caller may know of an error: the one edge where whatever a handler raises becomes a status.

    StatusError, Rejected   written for callers: as it is
    CallFailed, RpcError    of a call to somebody else: what it means for our own caller, who reads
                            from DOWNSTREAM_* that the illness is not this server's
    any other MeshError     its code, in words of ours
    anything else           what the handler had said by set_code() and set_details(), as generated
                            code does for a method that is not there; else INTERNAL "internal error"

The rule for a changer: text that was not written for callers never leaves the process.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.rpc import status_pb2

from mesh.errors import CallFailed, Code, MeshError, Rejected, StatusError
from mesh.policy.illness import BEYOND, ILLNESS
from mesh.server.refusal import Refusal
from mesh.status import CODES, DOMAIN, OWN_REASONS, error_info, from_trailing, retry_after

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


def translate(error: Exception, context: Any = None) -> MeshError:
    """What a caller may know of *error*, which ended a call with *context*."""
    if isinstance(error, CallFailed):
        return _downstream(error.code, from_trailing(error.trailing))
    if isinstance(error, StatusError) and not isinstance(error, Refusal) and _of_another(error):
        return _downstream(error.code, None)
    if isinstance(error, StatusError | Rejected):
        return error
    if isinstance(error, MeshError):
        return _private(error)
    if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call):
        return _downstream(CODES[error.code()], from_trailing(error.trailing_metadata()))
    if isinstance(error, grpc.aio.AioRpcError):
        trailing = tuple(error.trailing_metadata() or ())
        return _downstream(CODES[error.code()], from_trailing(trailing))
    if code := _said(context):
        message = context.details() or code.name.lower().replace("_", " ")
        return StatusError(code, message, reason=code.name, domain=DOMAIN)
    return StatusError(Code.INTERNAL, "internal error", reason="INTERNAL", domain=DOMAIN)


def _said(context: Any) -> Code | None:
    """What the handler told the call by set_code(), if that is an error."""
    code = None if context is None else context.code()
    number: int = code.value[0] if isinstance(code, grpc.StatusCode) else code or 0
    return Code(number) if number in range(1, 17) else None


def _of_another(error: StatusError) -> bool:
    """Whether it is what another server said of itself, raised again by a handler as it came."""
    return error.domain == DOMAIN and error.reason.startswith(OWN_REASONS)


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
    ill = code in ILLNESS or code is Code.UNKNOWN
    reason = f"{BEYOND}{code.name}" if ill or ours is not Code.INTERNAL else "INTERNAL"
    info = error_info(status)
    # The mesh's own reasons (CIRCUIT_OPEN, NO_ENDPOINT, ...) are public: callers act on them.  Not
    # so what a server says of itself: "draining, no handler has seen this" is not true of us.
    if info is not None and info.domain == DOMAIN and ours is code:
        reason = reason if info.reason.startswith(OWN_REASONS) else info.reason
    after = retry_after(status) if ours is not Code.INTERNAL else None
    return StatusError(ours, message, reason=reason, domain=DOMAIN, retry_after=after)
