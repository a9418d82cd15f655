"""
Observing: one record a call and one an attempt, whatever happens in between.

    observing(...)              CallEnded, and CallRejected where a layer refused
      ...
      observing_attempts(...)   AttemptStarted, AttemptEnded, and the traceparent for the wire

Closing a flow is an end like others: a caller that gives up and the loser of a hedge are CANCELLED.
Trace ids follow W3C Trace Context; where nothing came in, the call begins a trace of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from mesh.call import Call
from mesh.errors import Code, MeshError, Rejected
from mesh.flow import Inner, Layer, Steps
from mesh.inbound import INBOUND, Inbound
from mesh.telemetry.events import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallRejected,
    Emit,
    Span,
)

Clock = Callable[[], float]


def observing(
    clock: Clock,
    rng: Random,
    emit: Emit,
    *,
    inbound: Callable[[], Inbound | None] = INBOUND.get,
) -> Layer:
    """Say how each call ended; outermost, so that its seconds are what the caller waited."""

    def layer(call: Call, inner: Inner) -> Steps:
        served = inbound()
        parent = call.traceparent or (served.traceparent if served is not None else "")
        began, span, flags = clock(), *_child(parent, rng)
        call.traceparent = f"00-{span.trace_id}-{span.span_id}-{flags}"
        code, reason = Code.CANCELLED.name, ""
        try:
            reply = yield from inner(call)
        except MeshError as error:
            code, reason = error.code.name, error.reason
            if isinstance(error, Rejected):
                emit(CallRejected(call.method.name, reason))
            raise
        except Exception:
            code = Code.UNKNOWN.name
            raise
        else:
            code = Code.OK.name
            return reply
        finally:
            seconds = clock() - began
            emit(CallEnded(call.method.name, code, seconds, call.attempt, reason, span))

    return layer


def observing_attempts(clock: Clock, rng: Random, emit: Emit) -> Layer:
    """Say how each attempt began and ended; innermost but for faults, so that these show."""

    def layer(call: Call, inner: Inner) -> Steps:
        began, parent = clock(), call.traceparent
        span, flags = _child(parent, rng)
        call.traceparent = f"00-{span.trace_id}-{span.span_id}-{flags}"
        endpoint = call.endpoint.id if call.endpoint is not None else ""
        attempt, code = call.attempt, Code.CANCELLED.name
        emit(AttemptStarted(call.method.name, endpoint, attempt))
        try:
            reply = yield from inner(call)
        except MeshError as error:
            code = error.code.name
            raise
        except Exception:
            code = Code.UNKNOWN.name
            raise
        else:
            code = Code.OK.name
            return reply
        finally:
            call.traceparent = parent
            seconds = clock() - began
            emit(AttemptEnded(call.method.name, endpoint, attempt, code, seconds, span))

    return layer


def _child(traceparent: str, rng: Random) -> tuple[Span, str]:
    """A new span under `traceparent`, or a root where that is none, and the trace's flags."""
    span_id = f"{rng.getrandbits(64) or 1:016x}"
    # version 2, trace-id 32, parent-id 16, trace-flags 2; a later version may go on after them
    dashes = traceparent[2:3] + traceparent[35:36] + traceparent[52:53]
    if dashes == "---" == "-" * traceparent.count("-", 0, 55):
        flags = traceparent[53:55]
        if len(flags) == 2 and traceparent[55:56] in ("", "-"):
            return Span(traceparent[3:35], span_id, traceparent[36:52]), flags
    return Span(f"{rng.getrandbits(128) or 1:032x}", span_id), "01"
