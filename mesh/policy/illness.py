"""
Signs of health: what the end of an attempt says about the server that was asked.

    ILL      UNAVAILABLE, INTERNAL, DATA_LOSS, and DEADLINE_EXCEEDED after a fair wait
    WELL     OK, and every status that shows a server at work: NOT_FOUND, INVALID_ARGUMENT, ...
    SILENT   CANCELLED, RESOURCE_EXHAUSTED, and a deadline too short to blame anyone for

Breakers and outlier detection read the true final status, trailers included.
"""

from __future__ import annotations

from enum import Enum, auto

from mesh.errors import AttemptTimedOut, CallFailed, Code, Processed

ILLNESS = frozenset({Code.UNAVAILABLE, Code.INTERNAL, Code.DATA_LOSS, Code.DEADLINE_EXCEEDED})
# Load belongs to throttles, and whoever gave up has learned nothing.
SAYS_NOTHING = frozenset({Code.CANCELLED, Code.RESOURCE_EXHAUSTED})


class Sign(Enum):
    """What an attempt's end says of its server."""

    WELL = auto()
    ILL = auto()
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
    if code in SAYS_NOTHING:
        return Sign.SILENT
    if code not in codes:
        return Sign.WELL
    hurried = code is Code.DEADLINE_EXCEEDED and not isinstance(failure, AttemptTimedOut)
    if hurried and allowed is not None and allowed < floor:
        return Sign.SILENT
    return Sign.ILL


def unreached(failure: CallFailed) -> bool:
    """Whether the attempt failed on this side of the server: A50's local origin."""
    return failure.processed is Processed.NO
