"""
What layers say of what happened: frozen events, handed to one `emit` callable.

    layer -- emit(event) --> metrics, traces, logs, the dashboard: renderers of these values

Policies neither log nor count; whoever wants to know listens.  Durations are seconds, codes and
states are names, so that this file needs nothing of ours.  The channel that emits knows its target,
so no event repeats it.  They are msgspec.Structs, like Call: three are made for every call, and a
frozen dataclass takes five times as long to make.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Span(msgspec.Struct, frozen=True):
    """Where in a trace something happened, in W3C's hexadecimal; `parent_id` is empty at a root."""

    trace_id: str
    span_id: str
    parent_id: str = ""


class CallEnded(msgspec.Struct, frozen=True):
    """One logical call is over, however many attempts it took; cancelled ones say CANCELLED."""

    method: str
    code: str
    seconds: float
    attempts: int
    reason: str = ""
    span: Span | None = None


class AttemptStarted(msgspec.Struct, frozen=True):
    """One attempt is about to be put on the wire."""

    method: str
    endpoint: str
    attempt: int


class AttemptEnded(msgspec.Struct, frozen=True):
    """One attempt is over; the loser of a hedge says CANCELLED."""

    method: str
    endpoint: str
    attempt: int
    code: str
    seconds: float
    span: Span | None = None


class Retried(msgspec.Struct, frozen=True):
    """An attempt failed with `code`; the next begins after `delay`."""

    method: str
    attempt: int
    code: str
    delay: float
    # The server certainly never saw it, so it counts neither as an attempt nor against the budget.
    transparent: bool = False
    # The call's span, as in its CallEnded; empty when nobody traces.
    span_id: str = ""


class RetryRefused(msgspec.Struct, frozen=True):
    """An attempt failed and is not repeated; `why` is budget, attempts, pushback or deadline."""

    method: str
    attempt: int
    code: str
    why: str


class Hedged(msgspec.Struct, frozen=True):
    """Another attempt was sent beside those still running."""

    method: str
    attempt: int
    # The call's span, as in its CallEnded; empty when nobody traces.
    span_id: str = ""


class CallRejected(msgspec.Struct, frozen=True):
    """A layer refused the call before it left; `reason` is that of the error."""

    method: str
    reason: str


class CircuitChanged(msgspec.Struct, frozen=True):
    """The circuit of one endpoint (empty: of a guard) and method changed its state."""

    endpoint: str
    method: str
    before: str
    after: str


class EndpointEjected(msgspec.Struct, frozen=True):
    """
    An outlier was found; when not `enforced`, it stays in the picker all the same.

    `why` is success_rate, failure_percentage or consecutive_errors; `unenforced` is A91's reason:
    enforcement_percentage or max_ejection_overflow.
    """

    endpoint: str
    why: str
    seconds: float = 0.0
    unenforced: str = ""


class EndpointReturned(msgspec.Struct, frozen=True):
    """An ejected endpoint is back in the picker."""

    endpoint: str


class EndpointsChanged(msgspec.Struct, frozen=True):
    """A new picker is in force: `known` endpoints, `picked` from how many, in `panic` or not."""

    known: int
    picked: int
    panic: bool
    zone: str = ""


class FaultInjected(msgspec.Struct, frozen=True):
    """A fault rule struck: `kind` is delay or abort."""

    method: str
    kind: str
    seconds: float = 0.0
    code: str = ""


class FellBack(msgspec.Struct, frozen=True):
    """The caller was given a fallback in place of an error; `source` is value or last_good."""

    method: str
    source: str
    code: str


class PolicyChanged(msgspec.Struct, frozen=True):
    """A policy was put in force."""

    source: str


class PolicyRefused(msgspec.Struct, frozen=True):
    """A policy was refused whole, and the last good one stays; `why` names field and value."""

    source: str
    why: str


Event = (
    CallEnded
    | AttemptStarted
    | AttemptEnded
    | Retried
    | RetryRefused
    | Hedged
    | CallRejected
    | CircuitChanged
    | EndpointEjected
    | EndpointReturned
    | EndpointsChanged
    | FaultInjected
    | FellBack
    | PolicyChanged
    | PolicyRefused
)
Emit = Callable[[Event], None]


def unheard(_: Event) -> None:
    """The `emit` of whoever has no listener."""
