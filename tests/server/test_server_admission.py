"""Who is let in, by number, by what was learnt and by how much it matters: pure."""

from __future__ import annotations

import asyncio

import pytest

from mesh.errors import StatusError
from mesh.inbound import Inbound
from mesh.policy.adaptive import AdaptiveLimit, Concurrency
from mesh.server.admission import Admission


def admission(learnt: int | None, maximum: int = 100) -> Admission:
    """One that has learnt a limit of its own, or only has its maximum."""
    limit = None if learnt is None else Concurrency(AdaptiveLimit(initial=learnt))
    return Admission(maximum, limit, lambda: 0.0)


@pytest.mark.parametrize(
    ("criticality", "admitted"),
    [
        ("sheddable", 10),
        ("SHEDDABLE_PLUS", 15),
        ("critical", 20),
        ("", 20),
        ("no such word", 20),
        ("CRITICAL_PLUS", 22),
    ],
)
def test_what_can_wait_is_refused_first(criticality: str, admitted: int) -> None:
    door = admission(20)
    for _ in range(admitted):
        door("/s/M", Inbound(criticality=criticality))
    with pytest.raises(StatusError, match=f"{admitted} calls are in flight") as refused:
        door("/s/M", Inbound(criticality=criticality))

    assert refused.value.reason == "SERVER_OVERLOADED"
    assert refused.value.retry_after is None


@pytest.mark.parametrize(
    ("criticality", "admitted"), [("sheddable", 5), ("critical", 10), ("critical_plus", 10)]
)
def test_the_fixed_maximum_holds_for_all(criticality: str, admitted: int) -> None:
    door = admission(None, maximum=10)
    for _ in range(admitted):
        door("/s/M", Inbound(criticality=criticality))
    with pytest.raises(StatusError, match=f"at most {admitted} like this one fit"):
        door("/s/M", Inbound(criticality=criticality))


def test_quiet_streams_take_no_place_from_what_was_learnt() -> None:
    door = admission(20)
    for _ in range(50):
        door("/s/Watch", Inbound(), lasting=True)
    for _ in range(20):
        door("/s/M", Inbound())
    with pytest.raises(StatusError):
        door("/s/M", Inbound())
    for _ in range(30):
        door("/s/Watch", Inbound(), lasting=True)
    with pytest.raises(StatusError):
        door("/s/Watch", Inbound(), lasting=True)


@pytest.mark.parametrize(
    "error", [None, ValueError(), KeyboardInterrupt(), asyncio.CancelledError()]
)
def test_every_place_is_given_back_whatever_happens_inside(error: BaseException | None) -> None:
    limit = Concurrency(AdaptiveLimit())
    door = Admission(100, limit, lambda: 0.0)

    def work() -> None:
        with door("/s/M", Inbound()):
            assert (door.in_flight, limit.in_flight) == (1, 1)
            if error is not None:
                raise error

    if error is None:
        work()
    else:
        with pytest.raises(type(error)):
            work()
    assert (door.in_flight, limit.in_flight) == (0, 0)
