"""Half open: how many probes are let in, what they decide, and when one that hangs decides."""

import pytest

from mesh.call import Call, Kind, Method
from mesh.errors import CallFailed, CircuitOpen, Code
from mesh.flow import stack
from mesh.policy.breaker import Breaker, Circuit, State, breaking
from mesh.testing import Clock, play

DOWN = CallFailed(Code.UNAVAILABLE)
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


def test_several_probes_are_let_in_and_all_decide():
    circuit, clock, flow = opened(Breaker(failures=1, cooldown=10, probes=3))
    clock.advance(10)
    probes = [flow(Call(CALL)) for _ in range(3)]
    for probe in probes:
        next(probe)
    assert play(flow, "ok") == [CircuitOpen]

    for probe in probes[:2]:
        with pytest.raises(StopIteration):
            probe.send("ok")
        assert circuit.state is State.HALF_OPEN
    with pytest.raises(StopIteration):
        probes[2].send("ok")
    assert circuit.state is State.CLOSED


def test_probes_decide_early_when_the_rest_can_change_nothing():
    rule = Breaker(failures=1, failure_rate=0.5, cooldown=10, probes=4)
    for outcomes, state in [
        ([DOWN, DOWN], State.OPEN),
        (["ok", "ok"], State.HALF_OPEN),
        (["ok", "ok", "ok"], State.CLOSED),
        (["ok", DOWN, DOWN], State.OPEN),
    ]:
        circuit, clock, flow = opened(rule)
        clock.advance(10)
        for outcome in outcomes:
            play(flow, outcome)
        assert circuit.state is state


def test_a_success_before_a_failed_probe_is_not_carried_over():
    circuit, clock, flow = opened(Breaker(failures=1, cooldown=10, growth=1, probes=2))
    clock.advance(10)
    play(flow, "ok")
    play(flow, DOWN)
    assert circuit.state is State.OPEN
    clock.advance(10)
    play(flow, "ok")
    assert circuit.state is State.HALF_OPEN


def test_a_probe_that_never_answers_is_a_failed_one():
    circuit, clock, flow = opened(Breaker(failures=1, cooldown=10, growth=1, probe_seconds=30))
    clock.advance(10)
    hung = flow(Call(CALL))
    next(hung)

    clock.advance(30)
    assert play(flow, "ok") == [CircuitOpen]
    assert circuit.state is State.OPEN
    clock.advance(10)
    assert play(flow, "ok") == ["attempt 1", "ok"]
    hung.close()
    assert circuit.state is State.CLOSED


def test_the_time_for_an_answer_runs_from_the_probe_that_is_out():
    circuit, clock, flow = opened(Breaker(failures=1, cooldown=10, probe_seconds=30))
    clock.advance(10)
    given_up = flow(Call(CALL))
    next(given_up)
    given_up.close()
    clock.advance(100)
    probe = flow(Call(CALL))
    next(probe)
    clock.advance(1)

    assert not circuit.admits(clock())
    assert circuit.state is State.HALF_OPEN
    probe.close()


def test_a_stream_that_stands_is_a_good_probe():
    circuit, clock, flow = guard(Breaker(failures=1, cooldown=10, probe_seconds=30), streams=True)
    play(flow, DOWN)
    clock.advance(10)
    watch = flow(Call(Method("/test/Watch", Kind.UNARY_STREAM)))
    next(watch)
    clock.advance(30)

    assert play(flow, "ok") == ["attempt 1", "ok"]
    assert circuit.state is State.CLOSED
    watch.close()
