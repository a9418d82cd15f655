"""Transparent retries: what no handler has seen is sent again, with or without a rule (gRFC A6)."""

import pytest

from mesh.call import Call, Method
from mesh.errors import AttemptTimedOut, CallFailed, Code, NoEndpoint, Processed
from mesh.flow import Sleep, stack
from mesh.policy.budget import Throttle
from mesh.policy.hedge import Hedge, hedging
from mesh.policy.resend import resending
from mesh.policy.retry import Retry, retrying
from mesh.telemetry.events import Retried
from mesh.testing import Ceiling, Clock, play

UNSAFE = Method("/test/Charge")


def failed(processed=Processed.UNKNOWN, code=Code.UNAVAILABLE, **details):
    return CallFailed(code, processed=processed, **details)


def unsent(code=Code.UNAVAILABLE):
    return failed(Processed.NO, code)


def refused(**details):
    return failed(Processed.REFUSED, **details)


def said(*outcomes, deadline=None, committed=False, **observed):
    clock, call = Clock(), Call(UNSAFE, deadline=deadline, committed=committed)
    flow = stack(resending(Ceiling(), clock, **observed))
    return play(flow, *outcomes, clock=clock, call=call)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (["ok"], ["attempt 1", "ok"]),
        # Who knows whether it ran: not here.
        ([failed()], ["attempt 1", CallFailed]),
        # Never sent: at once the first time, then with a pause that grows, for ever.
        ([unsent(), "ok"], ["attempt 1", "attempt 1", "ok"]),
        (
            [unsent(), unsent(), unsent(), "ok"],
            ["attempt 1", "attempt 1", Sleep(0.012), "attempt 1", Sleep(0.024), "attempt 1", "ok"],
        ),
        # Refused by a server: once.
        ([refused(), "ok"], ["attempt 1", "attempt 1", "ok"]),
        ([refused(), refused()], ["attempt 1", "attempt 1", CallFailed]),
        # Each kind by its own count.
        ([refused(), unsent(), "ok"], ["attempt 1", "attempt 1", "attempt 1", "ok"]),
        ([unsent(), refused(), "ok"], ["attempt 1", "attempt 1", "attempt 1", "ok"]),
        ([unsent(), failed()], ["attempt 1", "attempt 1", CallFailed]),
        # The attempt's own time went by before it could be sent; the call's is not over.
        ([AttemptTimedOut(unsent(Code.DEADLINE_EXCEEDED)), "ok"], ["attempt 1", "attempt 1", "ok"]),
        ([unsent(Code.DEADLINE_EXCEEDED)], ["attempt 1", CallFailed]),
        # Whatever a server says: after its headers the attempt is committed.
        ([refused(headers_seen=True)], ["attempt 1", CallFailed]),
        # "If the pick result type was TRANSIENT_FAILURE, the RPC will be handled by the configured
        # retry policy." - gRFC A6
        ([NoEndpoint("all away")], ["attempt 1", NoEndpoint]),
    ],
)
def test_resend_says(outcomes, expected):
    assert said(*outcomes) == expected


def test_a_committed_call_is_not_sent_again():
    assert said(unsent(), committed=True) == ["attempt 1", CallFailed]


def test_it_ends_at_the_deadline():
    assert said(*[unsent()] * 4, deadline=0.04) == [
        "attempt 1",
        "attempt 1",
        Sleep(0.012),
        "attempt 1",
        Sleep(0.024),
        "attempt 1",
        CallFailed,
    ]


def test_each_is_told_as_transparent():
    heard = []
    said(refused(), "ok", emit=heard.append)
    assert heard == [Retried("/test/Charge", 1, "UNAVAILABLE", 0.0, transparent=True)]


@pytest.mark.parametrize("unseen", [unsent, refused])
def test_it_counts_neither_as_an_attempt_nor_for_the_budget(unseen):
    clock, throttle = Clock(), Throttle()
    call = Call(UNSAFE)
    flow = stack(
        retrying(Retry(attempts=2), Ceiling(), throttle=throttle), resending(Ceiling(), clock)
    )
    assert play(flow, unseen(), "ok", clock=clock, call=call)[-1] == "ok"
    assert call.attempt == 1
    assert throttle.tokens == 10.0


def test_what_a_second_server_refuses_is_for_the_retry_rule():
    clock, throttle = Clock(), Throttle()
    flow = stack(retrying(Retry(), Ceiling(), throttle=throttle), resending(Ceiling(), clock))
    assert play(flow, refused(), refused(), "ok", clock=clock, call=Call(UNSAFE)) == [
        "attempt 1",
        "attempt 1",
        Sleep(0.06),
        "attempt 2",
        "ok",
    ]
    assert throttle.tokens == 9.1


def test_a_hedge_that_was_not_sent_is_sent_again_and_counts_once():
    clock, throttle = Clock(), Throttle()
    flow = stack(hedging(Hedge(attempts=2), clock, throttle=throttle), resending(Ceiling(), clock))
    transcript = play(flow, unsent(), "ok", clock=clock)
    assert [line for line in transcript if line != "race"][-3:] == ["attempt 1", "attempt 1", "ok"]
    assert throttle.tokens == 10.0
