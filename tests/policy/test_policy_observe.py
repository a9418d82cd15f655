"""Observing: every call and attempt is told once, however it ends."""

from random import Random

import pytest

from mesh.call import Call, Idempotency, Method
from mesh.errors import BulkheadFull, CallFailed, Code
from mesh.flow import stack
from mesh.inbound import Inbound
from mesh.policy.hedge import Hedge, hedging
from mesh.policy.observe import observing, observing_attempts
from mesh.policy.retry import Retry, retrying
from mesh.telemetry.events import AttemptEnded, AttemptStarted, CallEnded, CallRejected
from mesh.testing import Ceiling, Clock, play
from mesh.testing.play import Takes

GET = Method("/test/Get", idempotency=Idempotency.NO_SIDE_EFFECTS)
DOWN = CallFailed(Code.UNAVAILABLE)


def observed(*outcomes, between=(), call=None, inbound=None):
    heard, clock, rng = [], Clock(), Random(1)
    layers = [
        observing(clock, rng, heard.append, inbound=lambda: inbound),
        *(make(clock) for make in between),
        observing_attempts(clock, rng, heard.append),
    ]
    play(stack(*layers), *outcomes, clock=clock, call=call or Call(GET))
    return heard


def short(event):
    if isinstance(event, AttemptStarted):
        return f"start {event.attempt}"
    if isinstance(event, CallRejected):
        return f"rejected {event.reason}"
    what = "call" if isinstance(event, CallEnded) else f"end {event.attempt}"
    return f"{what} {event.code} {event.seconds:g}"


def test_a_retried_call_is_one_call_of_two_attempts():
    heard = observed(
        Takes(0.5, DOWN), Takes(0.25, "ok"), between=[lambda _: retrying(Retry(), Ceiling())]
    )
    assert [short(event) for event in heard] == [
        "start 1",
        "end 1 UNAVAILABLE 0.5",
        "start 2",
        "end 2 OK 0.25",
        "call OK 0.81",
    ]
    assert heard[-1].attempts == 2


def test_the_loser_of_a_hedge_is_cancelled():
    heard = observed(Takes(9.0), "ok", between=[lambda clock: hedging(Hedge(delay=0.1), clock)])
    assert sorted(short(event) for event in heard) == [
        "call OK 0.1",
        "end 1 CANCELLED 0.1",
        "end 2 OK 0",
        "start 1",
        "start 2",
    ]


def test_a_refusal_is_told_with_its_reason():
    def full(call, inner):
        raise BulkheadFull("full")
        yield

    assert [short(e) for e in observed(between=[lambda _: full])] == [
        "rejected BULKHEAD_FULL",
        "call UNAVAILABLE 0",
    ]


def test_a_caller_who_gives_up_is_an_end_like_others():
    heard = []
    steps = stack(observing(Clock(), Random(1), heard.append))(Call(GET))
    next(steps)
    steps.close()
    assert [short(event) for event in heard] == ["call CANCELLED 0"]


def test_spans_hang_together_and_the_wire_carries_the_attempts():
    sent = []

    def wire(call, inner):
        sent.append(call.traceparent)
        return (yield from inner(call))

    heard, clock, rng = [], Clock(), Random(1)
    above = "00-" + "a" * 32 + "-" + "b" * 16 + "-00"
    flow = stack(
        observing(clock, rng, heard.append, inbound=lambda: Inbound(traceparent=above)),
        retrying(Retry(), Ceiling()),
        observing_attempts(clock, rng, heard.append),
        wire,
    )
    play(flow, DOWN, "ok", call=Call(GET))

    call = heard[-1].span
    attempts = [event.span for event in heard if isinstance(event, AttemptEnded)]
    assert (call.trace_id, call.parent_id) == ("a" * 32, "b" * 16)
    assert [span.parent_id for span in attempts] == [call.span_id] * 2
    assert sent == [f"00-{'a' * 32}-{span.span_id}-00" for span in attempts]


def test_where_nothing_came_in_a_trace_begins():
    call = Call(GET)
    heard = observed("ok", call=call)
    assert heard[-1].span.parent_id == ""
    assert len(heard[-1].span.trace_id) == 32
    assert call.traceparent.endswith("-01")


@pytest.mark.parametrize("garbage", ["", "00-xyz", "00-" + "a" * 32, "----"])
def test_a_traceparent_that_is_none_begins_a_trace_too(garbage):
    assert observed("ok", inbound=Inbound(traceparent=garbage))[-1].span.parent_id == ""
