"""The learnt limit against simulated servers: pure, with a clock of numbers."""

from __future__ import annotations

import pytest

from mesh.errors import StatusError
from mesh.inbound import Inbound
from mesh.server.adaptive import Adaptive, Capacity
from mesh.server.admission import Admission


class Simulated:
    """A server that does `workers` calls at once in `seconds` each; more take their turns."""

    def __init__(self, workers: int, seconds: float = 0.01, **rule: float) -> None:
        self.workers = workers
        self.seconds = seconds
        self.now = 0.0
        self.capacity = Capacity(Adaptive(**rule), 1000, 0.0)
        self.offer(1, windows=3)

    def offer(self, calls: int, windows: int) -> float:
        """Keep *calls* wanting in for so many windows; answers the limit then."""
        for _ in range(windows):
            in_flight = min(calls, int(self.capacity.limit))
            latency = self.seconds * max(1.0, in_flight / self.workers)
            for _ in range(100):
                self.now += 0.0101
                self.capacity.record("/s/M", latency, in_flight, self.now)
        return self.capacity.limit


def test_an_idle_server_learns_nothing():
    assert Simulated(workers=20).offer(3, windows=100) == 100


def test_a_fast_busy_server_is_given_more():
    assert Simulated(workers=10_000).offer(1000, windows=200) == 1000


@pytest.mark.parametrize("workers", [10, 30, 200])
def test_under_overload_the_limit_settles_where_calls_take_about_twice_as_long(workers):
    limit = Simulated(workers=workers).offer(1000, windows=100)
    assert 1.5 * workers <= limit <= 3.5 * workers


def test_a_server_that_slows_down_is_given_less_and_more_again_when_it_recovers():
    simulated = Simulated(workers=100)
    healthy = simulated.offer(1000, windows=60)
    simulated.seconds *= 10
    slow = simulated.offer(1000, windows=30)
    simulated.seconds /= 10
    again = simulated.offer(1000, windows=60)
    assert slow < healthy / 3
    assert again > healthy * 0.8


def test_the_limit_never_falls_below_its_minimum():
    simulated = Simulated(workers=1000)
    simulated.seconds *= 1000
    assert simulated.offer(1000, windows=200) == 10


def test_a_slowdown_that_lasts_becomes_the_usual():
    simulated = Simulated(workers=10_000, memory=20.0)
    simulated.seconds *= 5
    low = simulated.offer(1000, windows=10)
    assert simulated.offer(1000, windows=200) > 2 * low


def test_a_change_in_the_mix_of_methods_is_no_slowdown():
    capacity = Capacity(Adaptive(), 1000, 0.0)
    now = 0.0
    for share in (0, 0, 50, 100, 100):
        for n in range(100):
            now += 0.0101
            slow = n < share
            capacity.record("/s/Slow" if slow else "/s/Fast", 2.0 if slow else 0.002, 90, now)
    assert capacity.limit > 100


def admission(limit: int) -> Admission:
    """One that has learnt *limit* of a maximum of 100."""
    capacity = Capacity(Adaptive(initial=limit), 100, 0.0)
    return Admission(100, capacity, lambda: 0.0)


@pytest.mark.parametrize(
    ("criticality", "admitted"),
    [
        ("sheddable", 12),
        ("SHEDDABLE_PLUS", 16),
        ("critical", 20),
        ("", 20),
        ("no such word", 20),
        ("CRITICAL_PLUS", 100),
    ],
)
def test_what_can_wait_is_refused_first(criticality, admitted):
    door = admission(20)
    while door.in_flight < admitted:
        door("/s/M", Inbound(criticality=criticality)).__enter__()
    with pytest.raises(StatusError, match=f"{admitted} calls are in progress"):
        door("/s/M", Inbound(criticality=criticality))


def test_every_place_is_given_back_whatever_happens_inside():
    door = admission(20)
    for error in (None, ValueError(), KeyboardInterrupt()):
        try:
            with door("/s/M", Inbound()):
                assert door.in_flight == 1
                if error is not None:
                    raise error
        except (ValueError, KeyboardInterrupt):
            pass
        assert door.in_flight == 0
