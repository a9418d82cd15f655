"""
Deadline: what the caller asked for, what is left of the call being served, what the method allows.

    caller's timeout ----------------+
    inbound deadline - reserve ------+--> min --> call.deadline     nothing below may outlive it
    the method's timeout ------------+

A deadline is absolute and only ever lowered.  A call with less time than the floor is refused
before any work is done for it: its answer could reach nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mesh.call import Call, Metadata
from mesh.errors import DeadlineSpent
from mesh.flow import Inner, Layer, Steps
from mesh.inbound import INBOUND, Inbound

Clock = Callable[[], float]


def effective(
    asked: float | None,
    inbound: float | None,
    timeout: float | None,
    now: float,
    reserve: float = 0.0,
) -> float | None:
    """
    The earliest of the deadlines there are; `timeout` is in seconds, 0 or None for no limit.

    "The RPC timeout set by the application may never be exceeded." - gRFC A31
    """
    deadline = asked
    # Comparisons, for every call comes by here: min() costs as much as all the rest.
    if inbound is not None and (deadline is None or inbound - reserve < deadline):
        deadline = inbound - reserve
    if timeout and (deadline is None or now + timeout < deadline):
        deadline = now + timeout
    return deadline


def deadlining(
    timeout: float | None,
    clock: Clock,
    *,
    reserve: float = 0.01,
    floor: float = 0.005,
    inbound: Callable[[], Inbound | None] = INBOUND.get,
) -> Layer:
    """Give the call its deadline, and what else it inherits from the call being served."""

    def layer(call: Call, inner: Inner) -> Steps:
        now, served = clock(), inbound()
        ends = None
        if served is not None:
            ends = served.deadline
            call.criticality = call.criticality or served.criticality
            call.traceparent = call.traceparent or served.traceparent
            if served.saying is not None:
                call.metadata = _said(call, served.saying())
        call.deadline = deadline = effective(call.deadline, ends, timeout, now, reserve)
        if deadline is not None and deadline - now < floor:
            raise DeadlineSpent(f"{max(0.0, deadline - now) * 1000:.0f} ms are too few to begin")
        return (yield from inner(call))

    return layer


def _said(call: Call, said: Sequence[tuple[str, str | bytes]]) -> Metadata:
    """The call's metadata and what is said with it, but where the caller says so themselves."""
    given = {name for name, _ in call.metadata}
    return call.metadata if given.intersection(dict(said)) else call.with_metadata(said)
