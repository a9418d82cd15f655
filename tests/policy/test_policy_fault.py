"""Faults strike by their own dice, and headers get no more than the rule allows (gRFC A33)."""

from random import Random

import pytest

from mesh.call import Call, Method
from mesh.errors import CallFailed, Code, PolicyError
from mesh.flow import Sleep, stack
from mesh.policy.fault import Abort, Active, Delay, Fault, faulting
from mesh.telemetry.events import FaultInjected
from mesh.testing import play

CALL = Method("/test/Call")


def faulted(rule, *metadata, rng=None, active=None, emit=lambda _: None):
    flow = stack(faulting(rule, rng or Random(1), active=active, emit=emit))
    return play(flow, "ok", call=Call(CALL, metadata=metadata))


def test_delay_comes_first_and_abort_then():
    heard = []
    rule = Fault(delay=Delay(seconds=0.2), abort=Abort(code=Code.ABORTED))
    assert faulted(rule, emit=heard.append) == [Sleep(0.2), CallFailed]
    assert heard == [
        FaultInjected("/test/Call", "delay", 0.2),
        FaultInjected("/test/Call", "abort", 0.0, "ABORTED"),
    ]


def test_the_dice_are_independent():
    rule = Fault(delay=Delay(seconds=1, per_million=500_000), abort=Abort(per_million=500_000))
    rng = Random(7)
    kinds = [
        (Sleep(1) in said, said[-1] is CallFailed)
        for said in (faulted(rule, rng=rng) for _ in range(400))
    ]
    for kind in [(True, True), (True, False), (False, True), (False, False)]:
        assert 60 < kinds.count(kind) < 140


def test_a_fault_of_no_odds_never_strikes():
    assert faulted(Fault(abort=Abort(per_million=0))) == ["attempt 1", "ok"]


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ([], ["attempt 1", "ok"]),
        ([("x-envoy-fault-delay-request", "250")], [Sleep(0.25), "attempt 1", "ok"]),
        ([("x-envoy-fault-delay-request", "-1")], ["attempt 1", "ok"]),
        ([("x-envoy-fault-delay-request", "soon")], ["attempt 1", "ok"]),
        ([("x-envoy-fault-abort-grpc-request", "5")], [CallFailed]),
        ([("x-envoy-fault-abort-grpc-request", "99")], ["attempt 1", "ok"]),
        ([("x-envoy-fault-abort-request", "503")], [CallFailed]),
        (
            [
                ("x-envoy-fault-abort-grpc-request", "5"),
                ("x-envoy-fault-abort-request-percentage", "0"),
            ],
            ["attempt 1", "ok"],
        ),
    ],
)
def test_headers_ask_where_the_rule_lets_them(metadata, said):
    rule = Fault(delay=Delay(by_header=True), abort=Abort(by_header=True))
    assert faulted(rule, *metadata) == said


def test_headers_are_ignored_where_the_rule_does_not_let_them():
    rule = Fault(abort=Abort(code=Code.INTERNAL))
    flow = stack(faulting(rule, Random(1)))
    steps = flow(Call(CALL, metadata=(("x-envoy-fault-abort-grpc-request", "5"),)))
    with pytest.raises(CallFailed) as struck:
        next(steps)
    assert struck.value.code is Code.INTERNAL


@pytest.mark.parametrize(
    ("http", "code"),
    [
        ("200", Code.UNKNOWN),
        ("404", Code.UNIMPLEMENTED),
        ("429", Code.UNAVAILABLE),
        ("400", Code.INTERNAL),
    ],
)
def test_an_http_status_is_read_as_grpc_reads_it(http, code):
    flow = stack(faulting(Fault(abort=Abort(by_header=True)), Random(1)))
    with pytest.raises(CallFailed) as struck:
        next(flow(Call(CALL, metadata=(("x-envoy-fault-abort-request", http),))))
    assert struck.value.code is code


def test_a_header_gets_no_more_than_the_rules_odds():
    rule = Fault(abort=Abort(by_header=True, per_million=0))
    asked = [
        ("x-envoy-fault-abort-grpc-request", "5"),
        ("x-envoy-fault-abort-request-percentage", "100"),
    ]
    assert faulted(rule, *asked) == ["attempt 1", "ok"]


def test_no_more_faults_at_once_than_allowed_and_none_is_lost():
    active, rule = Active(), Fault(delay=Delay(seconds=1), max_active=1)
    flow = stack(faulting(rule, Random(1), active=active))
    first = flow(Call(CALL))
    assert next(first) == Sleep(1)
    assert faulted(rule, active=active) == ["attempt 1", "ok"]
    first.close()
    assert active.count == 0
    assert faulted(rule, active=active) == [Sleep(1), "attempt 1", "ok"]


def test_a_fault_that_is_none_makes_no_sense():
    with pytest.raises(PolicyError, match="fault: None names neither a delay nor an abort"):
        Fault()
    with pytest.raises(PolicyError, match=r"fault.abort.code: <Code.OK: 0> is not one of"):
        Abort(code=Code.OK)
