"""
Every error the mesh raises, and whose doing it was:

* MeshError                 .code .message .reason .domain .metadata .retry_after .processed
  + Rejected                refused on this side, safe to send elsewhere; .processed is unknown only
                            where a retry was refused after an attempt that may have been processed
    - CircuitOpen           UNAVAILABLE         CIRCUIT_OPEN, .retry_after
    - NoEndpoint            UNAVAILABLE         NO_ENDPOINT
    - BulkheadFull          UNAVAILABLE         BULKHEAD_FULL
    - Throttled             UNAVAILABLE         CLIENT_THROTTLED
    - RateLimited           RESOURCE_EXHAUSTED  RATE_LIMITED, .retry_after
    - Overloaded            UNAVAILABLE         OVERLOADED, .retry_after
    - DeadlineSpent         DEADLINE_EXCEEDED   DEADLINE_SPENT
  + CallFailed              sent (or tried) and failed; .processed: what the server may have done
    - AttemptTimedOut       DEADLINE_EXCEEDED of this attempt; the call itself has time left
  + StatusError             a servicer's answer with a rich status (google.rpc.ErrorInfo)
* PolicyError (ValueError)  a rule that makes no sense; names the field and the value

Codes are gRPC's, by number and name, without importing grpc: policies run where grpc is not.
"""

from collections.abc import Mapping, Sequence
from enum import Enum, IntEnum
from typing import Any

from mesh.details import details as read_details


class Code(IntEnum):
    """A gRPC status code."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Processed(Enum):
    """What a failed attempt's server may have done with it."""

    # Nothing: not a byte of it left this process.
    NO = "no"
    # Nothing: it arrived, and the server says that no handler has seen it.
    REFUSED = "refused"
    UNKNOWN = "unknown"


class MeshError(Exception):
    """Base of every error the mesh raises; `code` is what a gRPC caller sees."""

    code: Code = Code.UNKNOWN
    reason: str = ""
    domain: str = "proxyless"

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        self.metadata: Mapping[str, str] = {}
        self.processed = Processed.UNKNOWN

    @property
    def unseen(self) -> bool:
        """Whether no handler can have seen it, so that repeating it is doing it once."""
        return self.processed is not Processed.UNKNOWN


class Rejected(MeshError):
    """The call was refused on this side; no byte of what was refused left the process."""

    code = Code.UNAVAILABLE

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.processed = Processed.NO


class CircuitOpen(Rejected):
    """Every endpoint's circuit for this method is open; one admits again in `retry_after` s."""

    reason = "CIRCUIT_OPEN"

    def __init__(self, retry_after: float) -> None:
        super().__init__(
            f"circuit is open for another {retry_after:.1f} s", retry_after=retry_after
        )


class NoEndpoint(Rejected):
    """Discovery knows no endpoint that may be picked."""

    reason = "NO_ENDPOINT"


class BulkheadFull(Rejected):
    """As many calls as the bulkhead allows are in flight, and its queue is full or too slow."""

    reason = "BULKHEAD_FULL"


class Throttled(Rejected):
    """The server has been refusing; this call was refused in its stead (SRE client throttling)."""

    reason = "CLIENT_THROTTLED"


class RateLimited(Rejected):
    """The local rate limit has no token; one is there again in `retry_after` s."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "RATE_LIMITED"


class Overloaded(Rejected):
    """This process has more work than it can do in time; less critical work is refused first."""

    reason = "OVERLOADED"


class DeadlineSpent(Rejected):
    """Nothing, or too little to be of use, remains of the call's deadline."""

    code = Code.DEADLINE_EXCEEDED
    reason = "DEADLINE_SPENT"


class CallFailed(MeshError):
    """
    An attempt ended with a status other than OK.

    `trailing` is the trailing metadata as (key, value) pairs, whose google.rpc details give
    `reason`, `domain` and `retry_after`; `headers_seen` whether response headers had arrived
    (gRFC A6: the attempt is committed then), `source` the transport's own error, handed to the
    caller unchanged when nothing above replaces it.
    """

    def __init__(
        self,
        code: Code,
        details: str = "",
        *,
        trailing: Sequence[tuple[str, str | bytes]] = (),
        processed: Processed = Processed.UNKNOWN,
        headers_seen: bool = False,
        source: BaseException | None = None,
    ) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.trailing = tuple(trailing)
        self.processed = processed
        self.headers_seen = headers_seen
        self.source = source
        told = read_details(self.trailing) if self.trailing else None
        if told is not None:
            self.reason, self.domain = told.reason, told.domain
            self.retry_after = told.retry_after

    def __str__(self) -> str:
        return f"{self.code.name}: {self.details}" if self.details else self.code.name


class AttemptTimedOut(CallFailed):
    """The attempt's own time is over, the call's is not: asking again may still help."""

    def __init__(self, failure: CallFailed) -> None:
        super().__init__(
            Code.DEADLINE_EXCEEDED,
            failure.details,
            trailing=failure.trailing,
            processed=failure.processed,
            headers_seen=failure.headers_seen,
            source=failure.source,
        )


class StatusError(MeshError):
    """
    A servicer's answer that is not OK: status code plus google.rpc.ErrorInfo (AIP-193).

    `reason` is UPPER_SNAKE, `domain` who says so, `fields` become BadRequest.FieldViolation
    entries (field path, what is wrong), `details` are further protobuf messages, sent as they are.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        reason: str,
        domain: str,
        metadata: Mapping[str, str] | None = None,
        fields: Sequence[tuple[str, str]] = (),
        retry_after: float | None = None,
        details: Sequence[Any] = (),
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.code = code
        self.reason = reason
        self.domain = domain
        self.metadata = dict(metadata or {})
        self.fields = tuple(fields)
        self.details = tuple(details)


class PolicyError(ValueError):
    """A policy that makes no sense; `field` and `value` say where."""

    def __init__(self, field: str, value: object, why: str) -> None:
        super().__init__(f"{field}: {value!r} {why}")
        self.field = field
        self.value = value
        self.why = why
