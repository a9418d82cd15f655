"""Deadlines: the earliest wins, nothing may exceed what the application asked for."""

import pytest

from mesh.call import Call, Idempotency, Method
from mesh.errors import AttemptTimedOut, CallFailed, Code, DeadlineSpent
from mesh.flow import Sleep, stack
from mesh.inbound import INBOUND, Inbound, detached
from mesh.policy.deadline import deadlining, effective
from mesh.policy.retry import Retry, retrying
from mesh.policy.timing import timing
from mesh.testing import Ceiling, Clock, play
from mesh.testing.play import Takes

CALL = Method("/test/Call")


@pytest.mark.parametrize(
    ("application", "header_max", "max_stream", "expected"),
    [
        # gRFC A31, "Effective Timeout"; header_max 0 leaves the application's as it is.
        (20, None, 10, 10),
        (None, None, 10, 10),
        (20, 10, None, 10),
        (None, 10, None, 10),
        (20, 0, 10, 20),
        (None, 0, 10, None),
        (20, None, 0, 20),
        (5, 10, 20, 5),
        (20, None, None, 20),
        (None, None, None, None),
    ],
)
def test_the_table_of_a31(application, header_max, max_stream, expected):
    longest = header_max if header_max is not None else max_stream
    assert effective(application, None, longest, now=0) == expected


def deadline_given(call, timeout=None, inbound=None, now=100.0):
    seen = []

    def looking(call, inner):
        seen.append(call.deadline)
        return (yield from inner(call))

    layer = deadlining(timeout, Clock(now), reserve=0.5, floor=0.005, inbound=lambda: inbound)
    said = play(stack(layer, looking), "ok", call=call)
    return seen[0] if seen else said[-1]


@pytest.mark.parametrize(
    ("asked", "timeout", "inbound", "expected"),
    [
        (None, None, None, None),
        (103.0, None, None, 103.0),
        (103.0, 2.0, None, 102.0),
        (101.0, 2.0, None, 101.0),
        (None, None, 101.5, 101.0),
        (100.5, None, 101.5, 100.5),
        (105.0, 10.0, 101.5, 101.0),
        # Before the inbound one ends, but within its reserve.
        (101.2, None, 101.5, 101.0),
        (None, None, 100.5, DeadlineSpent),
        (99.0, None, None, DeadlineSpent),
        (100.004, None, None, DeadlineSpent),
        (100.006, None, None, 100.006),
    ],
)
def test_the_earliest_deadline_holds(asked, timeout, inbound, expected):
    served = Inbound(inbound) if inbound is not None else None
    assert deadline_given(Call(CALL, deadline=asked), timeout, served) == expected


def test_a_call_inherits_from_the_call_being_served_unless_detached():
    flow = stack(deadlining(None, Clock(), reserve=0.0))
    token = INBOUND.set(Inbound(7.0, "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "SHEDDABLE"))
    try:
        inside, outside = Call(CALL), Call(CALL)
        play(flow, "ok", call=inside)
        with detached():
            play(flow, "ok", call=outside)
    finally:
        INBOUND.reset(token)

    assert (inside.deadline, inside.criticality) == (7.0, "SHEDDABLE")
    assert inside.traceparent
    assert (outside.deadline, outside.criticality, outside.traceparent) == (None, "", "")


def test_an_attempt_ends_before_the_call_and_is_repeated():
    clock = Clock()
    flow = stack(retrying(Retry(), Ceiling(), clock=clock), timing(1.0, clock))
    call = Call(Method("/test/Get", idempotency=Idempotency.NO_SIDE_EFFECTS), deadline=5.0)
    said = play(flow, Takes(None), "ok", clock=clock, call=call)
    assert said == ["attempt 1", Sleep(0.06), "attempt 2", "ok"]
    assert clock.now == pytest.approx(1.06)


def test_the_calls_own_deadline_stays_the_calls():
    clock = Clock()
    call = Call(CALL, deadline=0.5)
    assert play(stack(timing(1.0, clock)), Takes(None), clock=clock, call=call)[-1] is CallFailed
    assert clock.now == 0.5


def test_the_deadline_is_put_back_after_the_attempt():
    clock, call = Clock(), Call(CALL, deadline=5.0)
    steps = stack(timing(1.0, clock))(call)
    assert next(steps).call.deadline == 1.0
    with pytest.raises(AttemptTimedOut) as ended:
        steps.throw(CallFailed(Code.DEADLINE_EXCEEDED, "late", source=KeyError()))
    assert call.deadline == 5.0
    assert isinstance(ended.value.source, KeyError)


def test_other_failures_of_an_attempt_pass_unchanged():
    failure = CallFailed(Code.NOT_FOUND)
    steps = stack(timing(1.0, Clock()))(Call(CALL))
    next(steps)
    with pytest.raises(CallFailed) as ended:
        steps.throw(failure)
    assert ended.value is failure
