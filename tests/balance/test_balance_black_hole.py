"""A server that fails fast, or hangs, must not look like the least busy one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from discovery.model import Endpoint
from mesh.balance.least_request import LeastRequest
from mesh.balance.member import HEAVIEST, LATE, LONGEST_AVOIDED, Member
from mesh.call import Call, Idempotency, Method

READ = Idempotency.NO_SIDE_EFFECTS
CALL = Call(Method("/shop.orders.v1.OrderService/GetOrder"))


def member(name: str, *, in_flight: int = 0, failures: int = 0) -> Member:
    made = Member(Endpoint(name, "127.0.0.1", 1))
    made.in_flight = in_flight
    for _ in range(failures):
        made.failed(0.0)
    return made


@contextmanager
def asked(member: Member, now: float, *, lasting: bool = False) -> Iterator[None]:
    member.begin(now, lasting)
    yield
    member.end(lasting)


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
    healed.answered(CALL.method.name, 0.0)

    assert 100 < share(healed, member("one")) < 200


def test_an_endless_streak_weighs_no_more_than_a_long_one() -> None:
    """After an outage behind all of them, the first that is well again must not get everything."""
    dead = member("dead", failures=500)

    assert share(dead, member("first", in_flight=HEAVIEST + 1)) > 100


def test_it_counts_with_latency_too() -> None:
    bad, one = member("bad", failures=2), member("one", in_flight=1)
    bad.latency.add(0.01, 0.0)
    one.latency.add(0.01, 0.0)

    assert share(bad, one, latency=True) == 0


def test_who_is_silent_while_calls_wait_looks_busier_the_longer_it_lasts() -> None:
    """A hung server has few calls in flight: only what it does not say gives it away."""
    hung, busy = member("hung"), member("busy", in_flight=3)
    with asked(hung, 0.0):
        assert share(hung, busy, now=LATE) == 300
        assert share(hung, busy, now=3.5 * LATE) == 0
        hung.answered(CALL.method.name, 3.5 * LATE)
        assert share(hung, busy, now=3.6 * LATE) == 300
    assert share(hung, busy, now=100.0) == 300


def test_a_stream_may_be_as_silent_as_it_likes() -> None:
    watched, other = member("watched"), member("other", in_flight=2)
    with asked(watched, 0.0, lasting=True):
        assert share(watched, other, now=3600.0) == 300


def test_silence_is_counted_from_the_first_call_after_a_rest() -> None:
    rested, other = member("rested"), member("other", in_flight=2)
    rested.answered(CALL.method.name, 0.0)
    with asked(rested, 60.0):
        assert share(rested, other, now=60.0) == 300


def test_who_fails_for_another_is_avoided_for_that_method_only() -> None:
    lost, well = member("lost"), member("well", in_flight=1)
    for _ in range(3):
        lost.failed_beyond(CALL.method.name, 0.0)

    assert share(lost, well) == 0
    picker = LeastRequest().picker((lost, well), Random(1))
    other = Call(Method("/shop.orders.v1.OrderService/ListOrders"))
    assert {picker.pick(other, 0.0) for _ in range(300)} == {lost}

    lost.answered(CALL.method.name, 0.1)
    assert share(lost, well, now=0.1) == 300


def test_who_comes_back_from_an_ejection_gets_one_call_until_it_answers() -> None:
    back, busy = member("back"), member("busy", in_flight=9)
    back.tally.on_trial = True
    assert share(back, busy) == 300
    with asked(back, 0.0):
        assert share(back, busy) == 0


def test_what_may_be_done_only_once_is_not_what_finds_out() -> None:
    """A read that fails is made again elsewhere; a charge that fails is lost."""
    back, busy = member("back"), member("busy", in_flight=9)
    back.tally.on_trial, back.tally.spared_until = True, 5.0
    picker = LeastRequest().picker((back, busy), Random(1))
    read = Call(Method("/shop.orders.v1.OrderService/GetOrder", idempotency=READ))

    assert {picker.pick(CALL, 4.9) for _ in range(300)} == {busy}
    assert {picker.pick(read, 4.9) for _ in range(300)} == {back}
    # With nobody else who asks, it is found out all the same.
    assert {picker.pick(CALL, 5.0) for _ in range(300)} == {back}
