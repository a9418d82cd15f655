"""A circuit trips, cools, is probed and mends; nothing else moves it."""

import pytest

from mesh.call import Call, Method
from mesh.errors import AttemptTimedOut, CallFailed, CircuitOpen, Code, PolicyError
from mesh.flow import stack
from mesh.policy.breaker import Breaker, Circuit, State, breaking
from mesh.policy.circuit import BY_HAND, TRANSITIONS, Event
from mesh.testing import Clock, play
from mesh.testing.play import Takes

DOWN = CallFailed(Code.UNAVAILABLE)
BAD = CallFailed(Code.INVALID_ARGUMENT)
CALL = Method("/test/Call")


def guard(rule, **more):
    clock = Clock()
    circuit = Circuit(rule, **more)
    return circuit, clock, stack(breaking(circuit, clock))


def opened(rule):
    circuit, clock, flow = guard(rule)
    for _ in range(rule.failures):
        play(flow, DOWN)
    return circuit, clock, flow


def test_one_probe_decides():
    circuit, clock, flow = opened(Breaker(failures=2, cooldown=10))

    clock.advance(9.9)
    assert play(flow, "ok") == [CircuitOpen]

    clock.advance(0.1)
    probe = flow(Call(CALL))
    next(probe)
    assert play(flow, "ok") == [CircuitOpen]  # only one at a time

    probe.close()  # the caller gave up: the probe goes back
    assert play(flow, "ok") == ["attempt 1", "ok"]
    assert circuit.state is State.CLOSED


def test_a_failed_probe_opens_it_again_for_longer():
    circuit, clock, flow = opened(Breaker(failures=1, cooldown=10, growth=2, longest_cooldown=30))
    waits = []
    for _ in range(4):
        waits.append(circuit.retry_after(clock()))
        clock.advance(waits[-1])
        play(flow, DOWN)

    assert waits == [10, 20, 30, 30]
    clock.advance(30)
    play(flow, "ok")
    play(flow, DOWN)
    assert circuit.retry_after(clock()) == 10  # mended in between: it starts from the beginning


@pytest.mark.parametrize(("waited", "state"), [(0, State.OPEN), (10, State.HALF_OPEN)])
def test_an_answer_from_before_the_trip_decides_nothing(waited, state):
    circuit, clock, flow = guard(Breaker(failures=1, cooldown=10))
    slow, probe = flow(Call(CALL)), flow(Call(CALL))
    next(slow)
    play(flow, DOWN)

    clock.advance(waited)
    if state is State.HALF_OPEN:
        next(probe)
    with pytest.raises(StopIteration):
        slow.send("late")

    assert circuit.state is state


@pytest.mark.parametrize(
    ("failure", "state"),
    [
        (Code.UNAVAILABLE, State.OPEN),
        (Code.INTERNAL, State.OPEN),
        (Code.DATA_LOSS, State.OPEN),
        (Code.DEADLINE_EXCEEDED, State.OPEN),
        (Code.INVALID_ARGUMENT, State.CLOSED),
        (Code.NOT_FOUND, State.CLOSED),
        (Code.ALREADY_EXISTS, State.CLOSED),
        (Code.PERMISSION_DENIED, State.CLOSED),
        (Code.UNAUTHENTICATED, State.CLOSED),
        (Code.FAILED_PRECONDITION, State.CLOSED),
        (Code.OUT_OF_RANGE, State.CLOSED),
        (Code.UNIMPLEMENTED, State.CLOSED),
        (Code.ABORTED, State.CLOSED),
        (Code.UNKNOWN, State.CLOSED),
        (Code.CANCELLED, State.CLOSED),
        (Code.RESOURCE_EXHAUSTED, State.CLOSED),
    ],
)
def test_only_illness_counts(failure, state):
    circuit, _, flow = guard(Breaker(failures=1))
    play(flow, CallFailed(failure))
    assert circuit.state is state


@pytest.mark.parametrize("code", [Code.CANCELLED, Code.RESOURCE_EXHAUSTED])
def test_what_says_nothing_gives_the_probe_back(code):
    circuit, clock, flow = opened(Breaker(failures=1, cooldown=10))
    clock.advance(10)
    play(flow, CallFailed(code))
    assert circuit.state is State.HALF_OPEN
    play(flow, "ok")
    assert circuit.state is State.CLOSED


def test_a_caller_in_a_hurry_does_not_trip_the_breaker_for_all():
    circuit, _, flow = guard(Breaker(failures=1, floor=0.1))
    late = CallFailed(Code.DEADLINE_EXCEEDED)

    play(flow, late, call=Call(CALL, deadline=0.003))
    assert circuit.state is State.CLOSED

    play(flow, late, call=Call(CALL, deadline=2.0))
    assert circuit.state is State.OPEN


def test_an_attempts_own_timeout_is_a_fair_wait():
    circuit, _, flow = guard(Breaker(failures=1))
    play(flow, AttemptTimedOut(CallFailed(Code.DEADLINE_EXCEEDED)), call=Call(CALL, deadline=0.05))
    assert circuit.state is State.OPEN


def test_a_cancelled_call_counts_for_nothing():
    circuit, _, flow = guard(Breaker(failures=1))
    call = flow(Call(CALL))
    next(call)
    call.close()
    assert circuit.state is State.CLOSED


def test_successes_in_between_do_not_hide_a_bad_rate():
    rule = Breaker(failures=None, failure_rate=0.5, window_calls=10, minimum_calls=10)
    circuit, _, flow = guard(rule)
    for _ in range(4):
        play(flow, "ok")
        play(flow, DOWN)
    assert circuit.state is State.CLOSED  # undefined before the minimum
    play(flow, "ok")
    play(flow, DOWN)
    assert circuit.state is State.OPEN  # at the threshold, not only above


def test_old_failures_are_forgotten_with_time():
    rule = Breaker(failures=None, failure_rate=0.5, window_seconds=10, minimum_calls=2)
    circuit, clock, flow = guard(rule)
    play(flow, DOWN)
    clock.advance(11)
    play(flow, "ok")
    play(flow, "ok")
    play(flow, DOWN)
    assert circuit.state is State.CLOSED


def test_slow_calls_trip_it_too():
    rule = Breaker(failures=None, slow_rate=1.0, slow_seconds=2, window_calls=3, minimum_calls=3)
    circuit, clock, flow = guard(rule)
    for _ in range(3):
        play(flow, Takes(2.5, "ok"), clock=clock)
    assert circuit.state is State.OPEN


def test_a_long_stream_is_not_a_slow_call():
    rule = Breaker(failures=None, slow_rate=1.0, slow_seconds=2, window_calls=1, minimum_calls=1)
    circuit, clock, flow = guard(rule, streams=True)
    play(flow, Takes(3600, "ok"), clock=clock)
    assert circuit.state is State.CLOSED


def test_the_error_says_when_to_come_back():
    circuit, clock, flow = opened(Breaker(failures=1, cooldown=10))
    clock.advance(4)
    with pytest.raises(CircuitOpen, match=r"circuit is open for another 6\.0 s") as refused:
        next(flow(Call(CALL)))
    assert refused.value.retry_after == 6
    assert refused.value.reason == "CIRCUIT_OPEN"
    assert circuit.state is State.OPEN


def test_it_can_be_forced_open_switched_off_and_given_back():
    circuit, clock, flow = guard(Breaker(failures=1))

    circuit.set(State.FORCED_OPEN, clock())
    clock.advance(1e6)
    assert play(flow) == [CircuitOpen]

    circuit.set(State.DISABLED, clock())
    assert play(flow, DOWN) == ["attempt 1", CallFailed]
    assert circuit.state is State.DISABLED

    circuit.set(State.CLOSED, clock())
    play(flow, DOWN)
    assert circuit.state is State.OPEN


def test_metrics_only_counts_and_lets_everything_through():
    rule = Breaker(failures=2, failure_rate=0.5, window_calls=4, minimum_calls=4)
    circuit, clock, flow = guard(rule)
    circuit.set(State.METRICS_ONLY, clock())
    for _ in range(5):
        assert play(flow, DOWN) == ["attempt 1", CallFailed]
    assert circuit.state is State.METRICS_ONLY
    assert circuit.total(clock()) == (4, 4, 0)


def test_nobody_can_set_what_only_calls_can_bring_about():
    circuit = Circuit(Breaker())
    with pytest.raises(PolicyError, match=r"circuit.state: 'OPEN' is not one of CLOSED"):
        circuit.set(State.OPEN, 0.0)
    assert circuit.state is State.CLOSED


def test_every_change_is_told_once():
    heard = []
    circuit, clock, flow = guard(Breaker(failures=1), changed=lambda a, b: heard.append((a, b)))
    play(flow, DOWN)
    clock.advance(10)
    play(flow, "ok")
    circuit.set(State.CLOSED, clock())

    assert heard == [
        (State.CLOSED, State.OPEN),
        (State.OPEN, State.HALF_OPEN),
        (State.HALF_OPEN, State.CLOSED),
    ]


def test_the_table_is_the_diagram():
    automatic = {
        (before.name, event.name, after.name)
        for (before, event), after in TRANSITIONS.items()
        if event in {Event.TRIP, Event.COOL, Event.MEND, Event.RELAPSE}
    }
    assert automatic == {
        ("CLOSED", "TRIP", "OPEN"),
        ("OPEN", "COOL", "HALF_OPEN"),
        ("HALF_OPEN", "MEND", "CLOSED"),
        ("HALF_OPEN", "RELAPSE", "OPEN"),
    }
    assert all(
        TRANSITIONS[before, event] is to for before in State for to, event in BY_HAND.items()
    )


def test_the_textbook_breaker_under_its_own_name():
    circuit, clock, flow = guard(Breaker.textbook())
    for _ in range(5):
        play(flow, DOWN)
    assert circuit.retry_after(clock()) == 30
    clock.advance(30)
    play(flow, "ok")
    assert circuit.state is State.HALF_OPEN
    play(flow, "ok")
    assert circuit.state is State.CLOSED


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"failures": 0}, "breaker.failures: 0 is below 1"),
        ({"failures": None}, "breaker.failures: None leaves nothing that could trip it"),
        ({"failure_rate": 50}, "breaker.failure_rate: 50 is not above 0 and at most 1"),
        ({"cooldown": -1}, "breaker.cooldown: -1 is not above 0"),
        ({"cooldown": 90.0}, "breaker.longest_cooldown: 60.0 is below breaker.cooldown 90.0"),
        ({"probes": 0}, "breaker.probes: 0 is below 1"),
        (
            {"failure_rate": 0.5, "window_calls": 10},
            "breaker.minimum_calls: 100 is above breaker.window_calls 10: it could never trip",
        ),
    ],
)
def test_a_breaker_that_makes_no_sense_says_which_field(fields, message):
    with pytest.raises(PolicyError) as refused:
        Breaker(**fields)
    assert str(refused.value) == message
