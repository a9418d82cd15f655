"""A server that fails fast, or hangs, must not look like the least busy one."""

from __future__ import annotations

from random import Random

from discovery.model import Endpoint
from mesh.balance.least_request import LeastRequest
from mesh.balance.member import Member
from mesh.call import Call, Method

CALL = Call(Method("/shop.orders.v1.OrderService/GetOrder"))


def member(name: str, *, in_flight: int = 0, failures: int = 0) -> Member:
    made = Member(Endpoint(name, "127.0.0.1", 1))
    made.in_flight = in_flight
    for _ in range(failures):
        made.tally.add(ok=False)
    return made


def picks(*members: Member, latency: bool = False) -> dict[str, int]:
    picker = LeastRequest(latency=latency).picker(members, Random(1))
    picked = [picker.pick(CALL, 0.0) for _ in range(300)]
    return {one.id: picked.count(one) for one in members}


def test_who_fails_at_once_is_not_preferred_for_being_idle() -> None:
    shared = picks(
        member("bad", failures=3), member("one", in_flight=1), member("two", in_flight=1)
    )

    assert shared["bad"] == 0


def test_it_still_serves_when_the_others_are_busier() -> None:
    shared = picks(
        member("bad", failures=1), member("one", in_flight=9), member("two", in_flight=9)
    )

    assert shared["bad"] > 100


def test_one_good_answer_makes_up_for_all() -> None:
    healed = member("healed", failures=5)
    healed.tally.add(ok=True)

    assert 50 < picks(healed, member("one"), member("two"))["healed"] < 150


def test_it_counts_with_latency_too() -> None:
    bad, one = member("bad", failures=2), member("one", in_flight=1)
    bad.latency.add(0.01, 0.0)
    one.latency.add(0.01, 0.0)

    assert picks(bad, one, latency=True)["bad"] == 0
