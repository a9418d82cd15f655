"""What refuses load on this side: rate limits and client throttling; by criticality."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as some

from mesh.call import Call, Method
from mesh.errors import CallFailed, Code, PolicyError, RateLimited, Throttled
from mesh.flow import stack
from mesh.policy.criticality import Criticality
from mesh.policy.limit import Meter, RateLimit, limiting
from mesh.policy.throttle import Acceptance, ClientThrottle, throttling
from mesh.testing import Clock, play

CALL = Method("/test/Call")
DOWN = CallFailed(Code.UNAVAILABLE)


def test_a_bucket_gives_its_burst_and_then_its_rate():
    clock, meter = Clock(), Meter(RateLimit(rate=2.0, burst=2))
    flow = stack(limiting(meter, clock))
    assert [play(flow, "ok")[-1] for _ in range(3)] == ["ok", "ok", RateLimited]
    clock.advance(0.5)
    assert [play(flow, "ok")[-1] for _ in range(2)] == ["ok", RateLimited]


def test_the_refusal_says_when_a_token_is_there():
    meter = Meter(RateLimit(rate=4.0))
    meter.take("", 0.0)
    with pytest.raises(RateLimited) as refused:
        meter.take("", 0.1)
    assert refused.value.retry_after == pytest.approx(0.15)
    assert refused.value.code is Code.RESOURCE_EXHAUSTED
    meter.take("", 0.1 + refused.value.retry_after)


def test_each_key_has_a_bucket_of_its_own_and_few_are_remembered():
    flow = stack(limiting(Meter(RateLimit(rate=1.0, key="x-tenant", keys=2)), Clock()))

    def ask(tenant):
        return play(flow, "ok", call=Call(CALL, metadata=(("x-tenant", tenant),)))[-1]

    assert [ask("a"), ask("b"), ask("a"), ask("c"), ask("b")] == [
        "ok",
        "ok",
        RateLimited,
        "ok",
        "ok",  # forgotten meanwhile: three are more than two
    ]


def test_what_matters_less_leaves_tokens_to_others():
    meter = Meter(RateLimit(rate=1.0, burst=4))
    meter.take("", 0.0, Criticality.SHEDDABLE)
    meter.take("", 0.0, Criticality.SHEDDABLE)
    with pytest.raises(RateLimited):
        meter.take("", 0.0, Criticality.SHEDDABLE)
    meter.take("", 0.0, Criticality.CRITICAL)
    meter.take("", 0.0, Criticality.CRITICAL_PLUS)


@given(some.lists(some.floats(0, 2), max_size=60), some.integers(1, 5))
def test_never_more_than_burst_and_rate_in_any_stretch(pauses, burst):
    meter, now, granted = Meter(RateLimit(rate=3.0, burst=burst)), 0.0, []
    for pause in pauses:
        now += pause
        try:
            meter.take("", now)
        except RateLimited:
            continue
        granted.append(now)
    for place, since in enumerate(granted):
        for more, until in enumerate(granted[place:], 1):
            assert more <= burst + 3.0 * (until - since) + 1e-6


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("SHEDDABLE", Criticality.SHEDDABLE),
        ("", Criticality.CRITICAL),
        ("?", Criticality.CRITICAL),
        ("critical_plus", Criticality.CRITICAL_PLUS),
    ],
)
def test_criticality_by_name(name, level):
    assert Criticality.of(name) is level


def test_a_server_that_accepts_is_never_throttled():
    clock, acceptance = Clock(), Acceptance(ClientThrottle())
    flow = stack(throttling(acceptance, clock, Random(1)))
    assert all(play(flow, "ok")[-1] == "ok" for _ in range(200))
    assert acceptance.odds(clock()) == 0.0


def test_a_server_that_refuses_is_asked_less_and_less():
    clock, acceptance = Clock(5.0), Acceptance(ClientThrottle(k=2.0, force=1.0))
    flow = stack(throttling(acceptance, clock, Random(1)))
    ends = [play(flow, DOWN)[-1] for _ in range(500)]
    assert ends.count(CallFailed) < 150
    # 500 calls, none accepted: (500 - 0) / 501
    assert acceptance.odds(clock()) == pytest.approx(500 / 501)


def test_one_call_a_second_finds_out_whether_it_is_over():
    clock, acceptance = Clock(5.0), Acceptance(ClientThrottle(window=3.0))
    flow = stack(throttling(acceptance, clock, Random(1)))
    for _ in range(500):
        play(flow, DOWN)
    clock.advance(1.0)
    assert play(flow, "ok")[-1] == "ok"
    clock.advance(4.0)
    assert acceptance.odds(clock()) == 0.0


def test_the_odds_are_those_of_the_book():
    acceptance = Acceptance(ClientThrottle(k=1.5, minimum_calls=1))
    for place in range(100):
        acceptance.record(1.0, accepted=place < 40)
    assert acceptance.odds(1.0) == pytest.approx((100 - 1.5 * 40) / 101)


def test_other_failures_are_no_refusals():
    clock, acceptance = Clock(), Acceptance(ClientThrottle(minimum_calls=1))
    flow = stack(throttling(acceptance, clock, Random(1)))
    for _ in range(50):
        play(flow, CallFailed(Code.NOT_FOUND))
    assert acceptance.odds(clock()) == 0.0
    assert Throttled().reason == "CLIENT_THROTTLED"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RateLimit(rate=0), "rate_limit.rate: 0 is not above 0"),
        (lambda: ClientThrottle(k=0.5), "client_throttle.k: 0.5 is not between 1 and 100"),
    ],
)
def test_a_rule_that_makes_no_sense_says_which_field(make, message):
    with pytest.raises(PolicyError) as refused:
        make()
    assert str(refused.value) == message
