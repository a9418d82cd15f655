"""A server that fails fast, or hangs, must not look like the least busy one."""

from __future__ import annotations

from random import Random

from discovery.model import Endpoint
from mesh.balance.least_request import LeastRequest
from mesh.balance.member import LONGEST_AVOIDED, Member
from mesh.call import Call, Method

CALL = Call(Method("/shop.orders.v1.OrderService/GetOrder"))


def member(name: str, *, in_flight: int = 0, failures: int = 0) -> Member:
    made = Member(Endpoint(name, "127.0.0.1", 1))
    made.in_flight = in_flight
    for _ in range(failures):
        made.tally.add(ok=False)
        made.failed(0.0)
    return made


def share(first: Member, *others: Member, now: float = 0.0, latency: bool = False) -> float:
    """How many of 300 picks the first gets."""
    picker = LeastRequest(latency=latency).picker((first, *others), Random(1))
    return [picker.pick(CALL, now) for _ in range(300)].count(first)


def test_who_fails_at_once_is_not_preferred_for_being_idle() -> None:
    others = [member(name, in_flight=1) for name in ("one", "two")]

    assert share(member("bad", failures=3), *others) == 0


def test_it_still_serves_when_the_others_are_busier() -> None:
    others = [member(name, in_flight=9) for name in ("one", "two")]

    assert share(member("bad", failures=1), *others) > 100


def test_it_is_asked_again_later_each_time_even_if_all_are_idle() -> None:
    for failures, seconds in ((1, 1.0), (2, 2.0), (50, LONGEST_AVOIDED)):
        bad, one = member("bad", failures=failures), member("one")

        assert share(bad, one, now=seconds - 0.01) == 0
        assert 100 < share(bad, one, now=seconds) < 200


def test_one_good_answer_makes_up_for_all() -> None:
    healed = member("healed", failures=5)
    healed.tally.add(ok=True)

    assert 100 < share(healed, member("one")) < 200


def test_it_counts_with_latency_too() -> None:
    bad, one = member("bad", failures=2), member("one", in_flight=1)
    bad.latency.add(0.01, 0.0)
    one.latency.add(0.01, 0.0)

    assert share(bad, one, latency=True) == 0
