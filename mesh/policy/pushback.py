"""
What a failed server says about trying again.

    grpc-retry-pushback-ms: 250          try again after exactly 250 ms (gRFC A6)
    grpc-retry-pushback-ms: -1           do not try again; so does anything that is no number
    grpc-status-details-bin: <Status>    RetryInfo says when to come back; mesh.details reads it
"""

from __future__ import annotations

from dataclasses import dataclass

from mesh.errors import CallFailed

PUSHBACK = "grpc-retry-pushback-ms"
INT32 = 2**31
# Of a server's word about time, this much is believed; seconds.
LONGEST = 300.0


@dataclass(frozen=True, slots=True)
class Pushback:
    """`delay` is how long to wait, exactly; None is a server that wants no further attempt."""

    delay: float | None


def pushback(failure: CallFailed) -> Pushback | None:
    """What the server asks for, if it asks for anything."""
    asked = next((_parse(value) for key, value in failure.trailing if key == PUSHBACK), None)
    if asked is None and failure.retry_after is not None:
        return Pushback(failure.retry_after) if failure.retry_after <= LONGEST else None
    return asked


def _parse(value: str | bytes) -> Pushback:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    digits = text.removeprefix("-")
    # "If the value for pushback is negative or unparseble, then it will be seen as the server
    # asking the client not to retry at all." - gRFC A6
    if not (digits.isascii() and digits.isdigit()) or not 0 <= int(text) < INT32:
        return Pushback(None)
    return Pushback(int(text) / 1000)
