"""Hedging says: who is asked beside whom, who wins, and that losers leave no trace."""

import pytest

from mesh.call import Call, Idempotency, Kind, Method
from mesh.errors import CallFailed, Code, NoEndpoint, PolicyError, Processed
from mesh.flow import stack
from mesh.policy.breaker import Breaker, Circuit, State, breaking
from mesh.policy.budget import Throttle
from mesh.policy.hedge import Hedge, hedging
from mesh.telemetry.events import Hedged
from mesh.testing import Clock, play
from mesh.testing.play import Takes

DOWN = CallFailed(Code.UNAVAILABLE)
BAD = CallFailed(Code.INVALID_ARGUMENT)


def hedged(*outcomes, rule=None, call=None, throttle=None, clock=None, emit=None, inside=()):
    clock = clock or Clock()
    layer = hedging(
        rule or Hedge(attempts=3, delay=0.1),
        clock,
        throttle=throttle,
        emit=emit or (lambda _: None),
    )
    return play(stack(layer, *inside), *outcomes, clock=clock, call=call)


def attempts(said):
    return [line for line in said if isinstance(line, str) and line.startswith("attempt")]


@pytest.mark.parametrize(
    ("outcomes", "expected", "seconds"),
    [
        (["ok"], ["race 0.1", "attempt 1", "ok"], 0.0),
        # Nobody answers in time: one more each delay, the first answer wins, others are closed.
        (
            [Takes(9.0, "slow"), "ok"],
            ["race 0.1", "attempt 1", "race 0.1", "attempt 2", "cancelled", "ok"],
            0.1,
        ),
        (
            [Takes(9.0), Takes(9.0), Takes(0.2, "ok")],
            [
                "race 0.1",
                "attempt 1",
                "race 0.1",
                "attempt 2",
                "race",
                "attempt 3",
                "cancelled",
                "cancelled",
                "ok",
            ],
            0.4,
        ),
        # A failure that is not fatal: the next at once.
        ([DOWN, "ok"], ["race 0.1", "attempt 1", "race 0.1", "attempt 2", "ok"], 0.0),
        # A fatal one ends it, whoever else is still asked.
        (
            [Takes(9.0), BAD],
            ["race 0.1", "attempt 1", "race 0.1", "attempt 2", "cancelled", CallFailed],
            0.1,
        ),
        (
            [DOWN, DOWN, DOWN],
            ["race 0.1", "attempt 1", "race 0.1", "attempt 2", "race", "attempt 3", CallFailed],
            0.0,
        ),
    ],
)
def test_hedging_says(outcomes, expected, seconds):
    clock = Clock()
    assert hedged(*outcomes, clock=clock) == expected
    assert clock.now == pytest.approx(seconds)


def test_a_delay_of_nothing_asks_all_at_once():
    said = hedged(Takes(3.0), Takes(1.0, "ok"), rule=Hedge(attempts=2, delay=0.0))
    assert said == ["race", "attempt 1", "attempt 2", "cancelled", "ok"]


def test_pushback_says_when_the_next_is_sent():
    later = CallFailed(Code.UNAVAILABLE, trailing=[("grpc-retry-pushback-ms", "400")])
    clock = Clock()
    assert hedged(later, "ok", clock=clock)[-1] == "ok"
    assert clock.now == pytest.approx(0.4)


def test_pushback_may_end_hedging_but_not_what_runs():
    stop = CallFailed(Code.UNAVAILABLE, trailing=[("grpc-retry-pushback-ms", "-1")])
    said = hedged(Takes(1.0, "ok"), stop)
    assert len(attempts(said)) == 2
    assert said[-1] == "ok"


def test_without_budget_only_the_first_is_sent():
    throttle = Throttle()
    for _ in range(5):
        throttle.failure()
    assert hedged(Takes(1.0, "ok"), throttle=throttle) == ["race", "attempt 1", "ok"]


def test_failures_and_successes_count_for_the_budget_losers_do_not():
    throttle = Throttle()
    hedged(Takes(9.0), DOWN, "ok", rule=Hedge(attempts=3, budget=0.5), throttle=throttle)
    assert throttle.tokens == 9.5


def test_what_may_not_run_twice_goes_out_once():
    unsafe = Method("/test/Charge")
    assert len(attempts(hedged(Takes(1.0, "ok"), call=Call(unsafe)))) == 1
    assert attempts(hedged(DOWN, "ok", call=Call(unsafe))) == ["attempt 1"]
    unseen = CallFailed(Code.UNAVAILABLE, processed=Processed.NO)
    assert hedged(unseen, "ok", call=Call(unsafe))[-1] == "ok"


def test_streams_are_not_hedged():
    watch = Method("/test/Watch", Kind.UNARY_STREAM, Idempotency.NO_SIDE_EFFECTS)
    assert attempts(hedged(Takes(5.0, "ok"), call=Call(watch))) == ["attempt 1"]


def test_losers_are_no_failures_to_a_breaker():
    clock, circuit = Clock(), Circuit(Breaker(failures=1))
    said = hedged(Takes(9.0), "ok", clock=clock, inside=[breaking(circuit, clock)])
    assert said[-1] == "ok"
    assert circuit.state is State.CLOSED


def test_a_loser_gives_its_probe_back():
    clock, circuit = Clock(), Circuit(Breaker(failures=1, cooldown=1.0, probes=2))
    play(stack(breaking(circuit, clock)), DOWN)
    clock.advance(1.0)
    hedged(Takes(9.0), "ok", clock=clock, inside=[breaking(circuit, clock)])
    assert circuit.state is State.HALF_OPEN
    assert circuit.admits(clock())


def test_a_hedge_that_finds_nobody_does_not_fail_the_call():
    def one_endpoint(call, inner):
        if call.attempt > 1:
            raise NoEndpoint("only one")
        return (yield from inner(call))

    assert hedged(Takes(1.0, "ok"), inside=[one_endpoint])[-1] == "ok"


def test_a_duplicate_that_meets_its_first_self_waits_for_it():
    # The server answers a hedge of a call with a key: your first one is still running.
    running = CallFailed(Code.ABORTED)
    running.reason = "IDEMPOTENCY_IN_PROGRESS"
    call = Call(Method("/test/Charge"), key="k-1")
    said = hedged(Takes(0.5, "ok"), running, rule=Hedge(attempts=2), call=call)
    assert said[-1] == "ok"


def test_each_hedge_is_told():
    heard = []
    hedged(Takes(9.0), "ok", emit=heard.append)
    assert heard == [Hedged("/test/Call", 2)]


def test_a_closed_call_closes_all_its_attempts():
    closed = []

    def held(call, inner):
        try:
            return (yield from inner(call))
        finally:
            closed.append(call.attempt)

    clock = Clock()
    flow = stack(hedging(Hedge(attempts=2, delay=0.0), clock), held)
    steps = flow(Call(Method("/t/C", idempotency=Idempotency.IDEMPOTENT)))
    race = next(steps)
    for branch in race.branches:
        next(branch.steps)
    steps.close()
    assert sorted(closed) == [1, 2]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attempts": 1}, "hedge.attempts: 1 is below 2"),
        ({"delay": -0.1}, "hedge.delay: -0.1 is below 0"),
    ],
)
def test_a_hedge_that_makes_no_sense_says_which_field(fields, message):
    with pytest.raises(PolicyError) as refused:
        Hedge(**fields)
    assert str(refused.value) == message
