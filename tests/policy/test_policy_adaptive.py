"""The adaptive limit against simulated servers: pure, with a clock of numbers."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.call import Call, Kind, Method
from mesh.errors import CallFailed, Code, Overloaded, PolicyError
from mesh.flow import stack
from mesh.policy.adaptive import AdaptiveLimit, Concurrency, shedding
from mesh.policy.criticality import Criticality
from mesh.testing import Clock, play

CALL = Method("/test/Call")


class Simulated:
    """A server that does `workers` calls at once in `seconds` each; more take their turns."""

    def __init__(self, workers: int, seconds: float = 0.01, **rule: Any) -> None:
        self.workers = workers
        self.seconds = seconds
        self.now = 0.0
        self.learnt = Concurrency(AdaptiveLimit(**rule))
        self.offer(1, windows=3)

    def offer(self, calls: int, windows: int) -> float:
        """Keep `calls` wanting in for so many windows; answers the limit then."""
        for _ in range(windows):
            ends = self.now + self.learnt.rule.interval
            answered = 0
            while self.now <= ends or answered < self.learnt.rule.samples:
                answered += self._round(calls)
        return self.learnt.limit

    def _round(self, calls: int) -> int:
        slots = []
        for _ in range(calls):
            try:
                slots.append(self.learnt.admit(self.now))
            except Overloaded:
                break
        self.now += self.seconds * max(1.0, len(slots) / self.workers)
        for slot in slots:
            with slot as answered:
                answered(self.now)
        return len(slots)


def test_an_idle_server_learns_nothing() -> None:
    assert Simulated(workers=20).offer(3, windows=100) == 100


def test_a_fast_busy_server_is_given_more() -> None:
    assert Simulated(workers=10_000).offer(1000, windows=100) == 1000


@pytest.mark.parametrize("workers", [10, 30, 200])
def test_under_overload_the_limit_settles_where_calls_take_about_twice_as_long(
    workers: int,
) -> None:
    limit = Simulated(workers=workers).offer(1000, windows=60)

    assert 1.5 * workers <= limit <= 3.5 * workers


def test_an_overload_that_lasts_is_never_taken_for_the_usual() -> None:
    simulated = Simulated(workers=30)
    early = simulated.offer(1000, windows=50)
    late = max(simulated.offer(1000, windows=10) for _ in range(50))

    assert late <= 1.5 * early


def test_a_server_that_slows_down_is_given_less_and_more_again_when_it_recovers() -> None:
    simulated = Simulated(workers=100)
    healthy = simulated.offer(1000, windows=60)
    simulated.seconds *= 10
    slow = simulated.offer(1000, windows=10)
    simulated.seconds /= 10
    again = simulated.offer(1000, windows=60)

    assert slow < healthy / 3
    assert again > healthy * 0.8


def test_the_limit_never_falls_below_its_least() -> None:
    simulated = Simulated(workers=1000)
    simulated.seconds *= 1000

    assert min(simulated.offer(1000, windows=1) for _ in range(20)) == 10


def test_a_server_that_stays_slow_is_learnt_anew_among_few() -> None:
    simulated = Simulated(workers=10_000)
    simulated.seconds *= 5
    low = min(simulated.offer(1000, windows=1) for _ in range(25))

    assert low == 10
    assert simulated.offer(1000, windows=100) > 500


def test_a_change_in_the_mix_of_methods_is_no_slowdown() -> None:
    learnt, now = Concurrency(AdaptiveLimit()), 0.0
    for share in (0, 0, 50, 100, 100):
        slots = [learnt.admit(now, method="/s/Slow" if n < share else "/s/Fast") for n in range(90)]
        for n, slot in enumerate(slots):
            now += 0.0101
            with slot:
                learnt.record(*(("/s/Slow", 2.0) if n < share else ("/s/Fast", 0.002)), now)

    assert learnt.limit > 100


def test_less_critical_calls_are_refused_first() -> None:
    learnt = Concurrency(AdaptiveLimit(initial=20))
    admitted = {}
    for level in reversed(Criticality):
        while learnt.in_flight < learnt.limit * level.value:
            learnt.admit(0.0, level)
        with pytest.raises(Overloaded) as refused:
            learnt.admit(0.0, level)
        admitted[level.name] = (learnt.in_flight, refused.value.retry_after)

    assert admitted == {
        "SHEDDABLE": (10, 1.0),
        "SHEDDABLE_PLUS": (15, 1.0),
        "CRITICAL": (20, 1.0),
        "CRITICAL_PLUS": (22, 1.0),
    }


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (1.0, 8.0),  # ten times as slow as usual: a fifth less
        (0.15, 10 + 10**0.5),  # slower, but no queue
        (0.01, 10.0),  # cut off early: nothing is learnt
    ],
)
def test_what_is_cut_off_counts_as_slow_but_never_as_fast(seconds: float, expected: float) -> None:
    learnt = Concurrency(AdaptiveLimit(initial=10, least=1, samples=5, interval=0.1))
    learnt.record(CALL.name, 0.1, 0.0)
    for slot in [learnt.admit(1.0, method=CALL.name) for _ in range(9)]:
        with slot:
            slot.cut(1.0 + seconds)

    assert learnt.limit == pytest.approx(expected)


def test_a_deadline_met_is_a_call_cut_off_and_another_failure_teaches_nothing() -> None:
    for failure, learns in ((Code.DEADLINE_EXCEEDED, True), (Code.NOT_FOUND, False)):
        clock = Clock()
        learnt = Concurrency(AdaptiveLimit(initial=1, least=1, samples=2, interval=0.1))
        learnt.record(CALL.name, 0.1, 0.0)
        steps = stack(shedding(learnt, clock))(Call(CALL))
        next(steps)
        clock.advance(0.15)
        with pytest.raises(CallFailed):
            steps.throw(CallFailed(failure))

        assert (learnt.limit > 1) is learns


def test_a_cancelled_call_gives_its_slot_back() -> None:
    learnt = Concurrency(AdaptiveLimit())
    steps = stack(shedding(learnt, Clock()))(Call(CALL))
    next(steps)
    assert learnt.in_flight == 1
    steps.close()
    assert learnt.in_flight == 0


def test_streams_pass_without_a_place() -> None:
    learnt = Concurrency(AdaptiveLimit(initial=1, least=1))
    stream = Method("/test/Watch", Kind.UNARY_STREAM)
    with learnt.admit(0.0):
        flow = stack(shedding(learnt, Clock()))

        assert play(flow, "ok", call=Call(stream))[-1] == "ok"
        assert play(flow, "ok", call=Call(CALL))[-1] is Overloaded


def test_a_limit_fits_whoever_takes_less() -> None:
    assert AdaptiveLimit().within(5) == AdaptiveLimit(initial=5, least=5, most=5)
    assert AdaptiveLimit().within(2000) == AdaptiveLimit()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"initial": 2}, "adaptive_limit.initial: 2 is below 10"),
        ({"least": 2000}, "adaptive_limit.least: 2000 is above 1000"),
        ({"tolerance": 0.5}, "adaptive_limit.tolerance: 0.5 is not between 1 and 10"),
        ({"smoothing": 0.0}, "adaptive_limit.smoothing: 0.0 is not above 0 and at most 1"),
    ],
)
def test_an_adaptive_limit_that_makes_no_sense_says_which_field(
    rule: dict[str, Any], message: str
) -> None:
    with pytest.raises(PolicyError) as refused:
        AdaptiveLimit(**rule)
    assert str(refused.value) == message
