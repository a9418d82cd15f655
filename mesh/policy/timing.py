"""
Attempt timeout: one attempt gets less time than the call, so that another can still be made.

    call.deadline   |------------------------------------------------------|
    attempt 1       |--------------x  AttemptTimedOut: may be repeated
    attempt 2                        |------------ ok

The layer lowers `call.deadline` around the attempt and puts it back, so drivers need to look at
nothing else.  DEADLINE_EXCEEDED of an attempt can be repeated, that of the call never.
"""

from __future__ import annotations

from collections.abc import Callable

from mesh.call import Call
from mesh.errors import AttemptTimedOut, CallFailed, Code
from mesh.flow import Inner, Layer, Steps


def timing(attempt_timeout: float, clock: Callable[[], float]) -> Layer:
    """Bound each attempt by `attempt_timeout` seconds."""

    def layer(call: Call, inner: Inner) -> Steps:
        whole, ends = call.deadline, clock() + attempt_timeout
        if whole is not None and whole <= ends:
            return (yield from inner(call))
        call.deadline = ends
        try:
            return (yield from inner(call))
        except CallFailed as failure:
            if failure.code is Code.DEADLINE_EXCEEDED:
                raise AttemptTimedOut(failure) from failure
            raise
        finally:
            call.deadline = whole

    return layer
