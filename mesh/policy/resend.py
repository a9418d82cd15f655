"""
Transparent retry: send again, at once and uncounted, what no handler can have seen (gRFC A6).

    never left this process   -->  again, elsewhere if there is an elsewhere, until the deadline
    refused by its server     -->  again, once
    anything else             -->  for `retrying` to decide, outside

It needs no rule and no idempotency: doing it again is doing it once.  It counts neither as an
attempt nor against the retry budget, because it adds no load to any handler.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from mesh.call import Call
from mesh.errors import AttemptTimedOut, CallFailed, Code, Processed
from mesh.flow import Inner, Layer, Sleep, Steps
from mesh.policy.backoff import Backoff
from mesh.telemetry.events import Emit, Retried, unheard

# From the second time on: what cannot be reached now is not asked in a tight loop.
PAUSE = Backoff(base=0.01, cap=1.0)


def resending(rng: Random, clock: Callable[[], float], *, emit: Emit = unheard) -> Layer:
    """Repeat attempts that no handler has seen, as gRPC's own core does without any rule."""

    def layer(call: Call, inner: Inner) -> Steps:
        try:
            return (yield from inner(call))
        except CallFailed as caught:
            failure = caught
        refused, unsent = False, 0
        while True:
            if not _repeatable(call, failure) or (refused and _refused(failure)):
                raise failure
            delay = 0.0
            if _refused(failure):
                # "has never been seen by the server application logic [...], the client library
                # will immediately retry it once" - gRFC A6
                refused = True
            else:
                # "never leaves the client, the client library can transparently retry until a
                # success occurs, or the RPC's deadline passes" - gRFC A6
                delay = PAUSE.delay(unsent, rng) if unsent else 0.0
                unsent += 1
            left = call.remaining(clock())
            if left is not None and delay >= left:
                raise failure
            code = call.retried_for = failure.code.name
            name, span = call.method.name, call.span_id
            emit(Retried(name, call.attempt, code, delay, transparent=True, span_id=span))
            if delay:
                yield Sleep(delay)
            try:
                return (yield from inner(call))
            except CallFailed as caught:
                failure = caught

    return layer


def _refused(failure: CallFailed) -> bool:
    return failure.processed is Processed.REFUSED


def _repeatable(call: Call, failure: CallFailed) -> bool:
    if not failure.unseen or failure.headers_seen or call.committed:
        return False
    # An attempt's own time may be over, the call's must not be.
    late = failure.code is Code.DEADLINE_EXCEEDED
    return not late or isinstance(failure, AttemptTimedOut)
