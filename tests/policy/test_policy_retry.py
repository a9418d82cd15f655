"""Retry says: what is repeated, when, how often, and what the caller hears in the end."""

import pytest

from mesh.call import Call, Idempotency, Method
from mesh.errors import (
    AttemptTimedOut,
    CallFailed,
    CircuitOpen,
    Code,
    NoEndpoint,
    PolicyError,
    Processed,
)
from mesh.flow import Sleep, stack
from mesh.policy.breaker import Breaker, Circuit, breaking
from mesh.policy.budget import Throttle
from mesh.policy.retry import Retry, retrying
from mesh.telemetry.events import Retried, RetryRefused
from mesh.testing import Ceiling, Clock, play

UNSAFE = Method("/test/Charge")


def down(code=Code.UNAVAILABLE, **details):
    return CallFailed(code, **details)


def unseen():
    return down(processed=Processed.NO)


def pushed(value, code=Code.UNAVAILABLE):
    return down(code, trailing=[("grpc-retry-pushback-ms", value)])


def said(*outcomes, rule=None, **play_with):
    return play(stack(retrying(rule or Retry(), Ceiling())), *outcomes, **play_with)


TIMED_OUT = AttemptTimedOut(down(Code.DEADLINE_EXCEEDED))


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (["ok"], ["attempt 1", "ok"]),
        ([down(), "ok"], ["attempt 1", Sleep(0.06), "attempt 2", "ok"]),
        (
            [down(), down(), down()],
            ["attempt 1", Sleep(0.06), "attempt 2", Sleep(0.12), "attempt 3", CallFailed],
        ),
        ([down(Code.INVALID_ARGUMENT)], ["attempt 1", CallFailed]),
        ([down(Code.ABORTED)], ["attempt 1", CallFailed]),
        # An attempt's own timeout is worth another attempt, the call's is not.
        ([TIMED_OUT, "ok"], ["attempt 1", Sleep(0.06), "attempt 2", "ok"]),
        # Pushback: exactly that, no jitter; then backoff starts again from the beginning.
        ([pushed("250"), "ok"], ["attempt 1", Sleep(0.25), "attempt 2", "ok"]),
        (
            [pushed("250"), down(), "ok"],
            ["attempt 1", Sleep(0.25), "attempt 2", Sleep(0.06), "attempt 3", "ok"],
        ),
        ([pushed("0"), "ok"], ["attempt 1", "attempt 2", "ok"]),
        ([pushed("-1")], ["attempt 1", CallFailed]),
        ([pushed("soon")], ["attempt 1", CallFailed]),
        ([pushed("99999999999")], ["attempt 1", CallFailed]),
        # Load: repeated only when the server says when.
        ([down(Code.RESOURCE_EXHAUSTED)], ["attempt 1", CallFailed]),
        (
            [pushed("100", Code.RESOURCE_EXHAUSTED), "ok"],
            ["attempt 1", Sleep(0.1), "attempt 2", "ok"],
        ),
        # What was not seen is like any other failure here; `resending` has tried already.
        ([unseen(), "ok"], ["attempt 1", Sleep(0.06), "attempt 2", "ok"]),
        # After headers an attempt is committed.
        ([down(headers_seen=True)], ["attempt 1", CallFailed]),
    ],
)
def test_retry_says(outcomes, expected):
    assert said(*outcomes) == expected


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (down(), ["attempt 1", CallFailed]),
        (TIMED_OUT, ["attempt 1", AttemptTimedOut]),
        (pushed("10"), ["attempt 1", CallFailed]),
        (unseen(), ["attempt 1", Sleep(0.06), "attempt 2", "ok"]),
    ],
)
def test_what_may_not_run_twice_is_repeated_only_when_it_did_not_run(outcome, expected):
    assert said(outcome, "ok", call=Call(UNSAFE)) == expected


def test_an_idempotency_key_makes_a_call_repeatable():
    assert said(down(), "ok", call=Call(UNSAFE, key="k-1"))[-1] == "ok"


def test_pushback_begins_the_backoff_anew():
    outcomes = [down(), down(), pushed("250"), down(), "ok"]
    waits = [line for line in said(*outcomes, rule=Retry(attempts=5)) if isinstance(line, Sleep)]
    assert waits == [Sleep(0.06), Sleep(0.12), Sleep(0.25), Sleep(0.06)]


def test_a_call_that_runs_already_is_asked_for_again_when_the_server_says():
    running = down(Code.ABORTED, trailing=[("grpc-status-details-bin", IN_PROGRESS_IN_1_5_S)])

    assert said(running, running, "ok", call=Call(UNSAFE, key="k-1")) == [
        "attempt 1",
        Sleep(1.5),
        "attempt 1",
        Sleep(1.5),
        "attempt 1",
        "ok",
    ]
    assert said(running, call=Call(UNSAFE)) == ["attempt 1", CallFailed]


def test_patience_with_a_call_that_runs_already_ends():
    running = down(Code.ABORTED, trailing=[("grpc-status-details-bin", IN_PROGRESS_IN_1_5_S)])
    assert said(*[running] * 11, call=Call(UNSAFE, key="k-1"))[-1] is CallFailed


def test_a_deadline_of_the_call_is_never_retried():
    rule = Retry(codes=frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED}))
    call = Call(Method("/t/C", idempotency=Idempotency.IDEMPOTENT), deadline=9.0)
    assert said(down(Code.DEADLINE_EXCEEDED), rule=rule, call=call) == ["attempt 1", CallFailed]


def test_a_wait_that_would_outlive_the_deadline_is_not_begun():
    clock, call = Clock(), Call(Method("/t/C", idempotency=Idempotency.IDEMPOTENT), deadline=0.05)
    flow = stack(retrying(Retry(), Ceiling(), clock=clock))
    assert play(flow, down(), clock=clock, call=call) == ["attempt 1", CallFailed]


def test_a_committed_call_is_not_repeated():
    call = Call(Method("/t/C", idempotency=Idempotency.IDEMPOTENT), committed=True)
    assert said(unseen(), call=call) == ["attempt 1", CallFailed]


def test_a_breaker_inside_a_retry_ends_it():
    clock = Clock()
    circuit = Circuit(Breaker(failures=2))
    flow = stack(retrying(Retry(), Ceiling()), breaking(circuit, clock))

    assert play(flow, down(), down(), clock=clock) == [
        "attempt 1",
        Sleep(0.06),
        "attempt 2",
        Sleep(0.12),
        CircuitOpen,
    ]


def test_a_refused_repetition_does_not_claim_that_nothing_was_sent():
    def refusing(call, inner):
        if call.attempt > 1:
            raise CircuitOpen(3.0)
        return (yield from inner(call))

    steps = stack(retrying(Retry(), Ceiling()), refusing)(Call(Method("/t/C"), key="k"))
    next(steps)
    steps.throw(down())
    with pytest.raises(CircuitOpen) as refused:
        steps.send(None)

    assert refused.value.processed is Processed.UNKNOWN
    assert CircuitOpen(1.0).processed is Processed.NO


def test_nobody_to_ask_is_asked_again_later():
    answers = iter([NoEndpoint("all away"), None])

    def away(call, inner):
        problem = next(answers)
        if problem is not None:
            raise problem
        return (yield from inner(call))

    flow = stack(retrying(Retry(), Ceiling()), away)
    assert play(flow, "ok") == [Sleep(0.06), "attempt 2", "ok"]


def test_the_budget_is_the_targets_and_not_the_calls():
    throttle = Throttle()
    flow = stack(retrying(Retry(attempts=2), Ceiling(), throttle=throttle))
    attempts = [len(play(flow, down(), down())) for _ in range(20)]

    # Five failures take ten tokens to the half; from there on every call is made once.
    assert sum(1 for length in attempts if length > 2) == 2
    assert throttle.tokens == 0.0


def test_successes_pay_for_retries_a_tenth_each():
    throttle = Throttle()
    flow = stack(retrying(Retry(attempts=2, base=0.001), Ceiling(), throttle=throttle))
    for _ in range(5):
        throttle.failure()

    assert play(flow, down()) == ["attempt 1", CallFailed]
    for _ in range(30):
        play(flow, "ok")

    assert throttle.tokens == 7.0
    assert play(flow, down(), "ok")[-1] == "ok"


def test_what_says_nothing_of_load_does_not_touch_the_budget():
    throttle = Throttle()
    flow = stack(retrying(Retry(), Ceiling(), throttle=throttle))
    play(flow, down(Code.INVALID_ARGUMENT))
    assert throttle.tokens == 10.0


def test_every_decision_is_told():
    heard = []
    flow = stack(retrying(Retry(attempts=2), Ceiling(), emit=heard.append))
    play(flow, down(), down())

    assert heard == [
        Retried("/test/Call", 1, "UNAVAILABLE", 0.06),
        RetryRefused("/test/Call", 2, "UNAVAILABLE", "attempts"),
    ]


def test_why_it_is_retried_travels_with_the_call():
    call = Call(Method("/t/C", idempotency=Idempotency.IDEMPOTENT))
    said(down(), "ok", call=call)
    assert (call.attempt, call.retried_for) == (2, "UNAVAILABLE")


def test_attempts_beyond_the_limit_are_cut():
    assert Retry(attempts=9) == Retry(attempts=5)
    assert Retry(attempts=9, limit=10).attempts == 9


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("attempts", 1, "is below 2"),
        ("attempts", 2.5, "is not an integer"),
        ("attempts", True, "is not an integer"),
        ("base", 0, "is not above 0"),
        ("cap", float("inf"), "is not a number"),
        ("multiplier", -1, "is not above 0"),
        ("budget", 0, "is not above 0"),
        ("codes", frozenset(), "names no status that can be retried"),
        ("codes", {Code.OK}, "names no status that can be retried"),
    ],
)
def test_a_rule_that_makes_no_sense_names_the_field_and_the_value(field, value, why):
    with pytest.raises(PolicyError) as refused:
        Retry(**{field: value})

    assert str(refused.value) == f"retry.{field}: {value!r} {why}"


def _field(number, body):
    return bytes([number << 3 | 2, len(body)]) + body


def _detail(kind, body):
    return _field(3, _field(1, b"type.googleapis.com/" + kind) + _field(2, body))


RETRY_IN_1_5_S = _field(1, bytes([1 << 3, 1, 2 << 3]) + b"\x80\xca\xb5\xee\x01")
IN_PROGRESS_IN_1_5_S = (
    bytes([1 << 3, 10])
    + _field(2, b"still running")
    + _detail(b"google.rpc.ErrorInfo", _field(1, b"IDEMPOTENCY_IN_PROGRESS"))
    + _detail(b"google.rpc.RetryInfo", RETRY_IN_1_5_S)
)
