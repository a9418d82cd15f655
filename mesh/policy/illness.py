"""
Signs of health: what the end of an attempt says about the server that was asked.

    ILL      UNAVAILABLE, INTERNAL, DATA_LOSS, and DEADLINE_EXCEEDED after a fair wait
    BEYOND   the same, where the server says that a service it needs has failed: DOWNSTREAM_*
    WELL     OK, and every status that shows a server at work: NOT_FOUND, INVALID_ARGUMENT, ...
    SILENT   CANCELLED, RESOURCE_EXHAUSTED, a deadline too short to blame anyone for, and what no
             handler has seen: whether a server can be reached is for its connection to say

Breakers and outlier detection read the true final status, trailers included.

Why BEYOND is no illness: when the last of three services is out, every server in the middle fails
alike.  To eject them, or to open their circuits, takes away what else they do, and is one thing
more to recover when the outage is over.  It is not health either: one server that alone has lost
its way to a service it needs answers faster than its peers, and least request must not reward that.
So nobody is ejected for it and no circuit opens, but it weighs as load, like any failure in a row.
"""

from __future__ import annotations

from enum import Enum, auto

from mesh.errors import (
    AttemptTimedOut,
    BulkheadFull,
    CallFailed,
    CircuitOpen,
    Code,
    MeshError,
    NoEndpoint,
    Overloaded,
    Throttled,
)

ILLNESS = frozenset({Code.UNAVAILABLE, Code.INTERNAL, Code.DATA_LOSS, Code.DEADLINE_EXCEEDED})
# Load belongs to throttles, and whoever gave up has learned nothing.
SAYS_NOTHING = frozenset({Code.CANCELLED, Code.RESOURCE_EXHAUSTED})
# How a server of the mesh says that what failed was its own call to somebody else.
BEYOND = "DOWNSTREAM_"
REFUSED_BEYOND = frozenset(
    kind.reason for kind in (CircuitOpen, NoEndpoint, BulkheadFull, Throttled, Overloaded)
)


class Sign(Enum):
    """What an attempt's end says of its server."""

    WELL = auto()
    ILL = auto()
    # The server is at work, somebody behind it is not.
    BEYOND = auto()
    SILENT = auto()


def sign_of(
    failure: CallFailed,
    allowed: float | None,
    *,
    codes: frozenset[Code] = ILLNESS,
    floor: float = 0.1,
) -> Sign:
    """
    Read a failed attempt; `allowed` is how many seconds the call had left when it began.

    A caller with less than `floor` seconds was in too much of a hurry to tell illness from work.
    """
    code = failure.code
    if code in SAYS_NOTHING or failure.unseen:
        return Sign.SILENT
    if code not in codes:
        return Sign.WELL
    if beyond(failure):
        return Sign.BEYOND
    hurried = code is Code.DEADLINE_EXCEEDED and not isinstance(failure, AttemptTimedOut)
    if hurried and allowed is not None and allowed < floor:
        return Sign.SILENT
    return Sign.ILL


def beyond(failure: CallFailed) -> bool:
    """Whether the server says, by ErrorInfo, that a service it needs is what failed."""
    if failure.domain != MeshError.domain:
        return False
    return failure.reason.startswith(BEYOND) or failure.reason in REFUSED_BEYOND
