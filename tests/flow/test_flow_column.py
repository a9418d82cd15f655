"""The whole column, played: who is asked, how often, and what the caller hears."""

from random import Random

import pytest

from discovery.model import Endpoint, Snapshot
from mesh.balance.lease import QUEUE
from mesh.call import Call, Idempotency, Method
from mesh.column import Memory, _Build, column
from mesh.errors import (
    BulkheadFull,
    CallFailed,
    CircuitOpen,
    Code,
    DeadlineSpent,
    NoEndpoint,
    Processed,
)
from mesh.flow import Sleep, Wait
from mesh.policy.adaptive import AdaptiveLimit
from mesh.policy.breaker import Breaker, State
from mesh.policy.bulkhead import Bulkhead
from mesh.policy.config import Policy
from mesh.policy.fallback import Fallback
from mesh.policy.fault import Abort, Fault
from mesh.policy.hedge import Hedge
from mesh.policy.limit import RateLimit
from mesh.policy.retry import Retry
from mesh.policy.throttle import ClientThrottle
from mesh.testing import Clock, play
from mesh.testing.play import Takes

GET = Method("/shop.orders.v1.OrderService/GetOrder", idempotency=Idempotency.NO_SIDE_EFFECTS)


def down(code=Code.UNAVAILABLE):
    return CallFailed(code)


def snapshot(*names):
    endpoints = (Endpoint(name, "127.0.0.1", 1000 + place) for place, name in enumerate(names))
    return Snapshot("orders", tuple(endpoints))


def memory_of(*names, ready=True):
    memory = Memory()
    memory.publish(snapshot(*names))
    for name in names if ready else ():
        memory.set_ready(name, True)
    return memory


def flow_of(policy, memory, clock=None):
    return column(policy, memory, clock=clock or Clock(), rng=Random(1), emit=None)


def test_a_call_goes_to_an_endpoint_and_comes_back():
    memory, call = memory_of("a"), Call(GET)

    assert play(flow_of(Policy(), memory), "ok", call=call) == ["attempt 1", "ok"]
    assert call.endpoint.id == "a"
    assert memory.in_flight("a") == 0


def test_a_retry_asks_everyone_else_first():
    memory, call = memory_of("a", "b", "c"), Call(GET)

    said = play(flow_of(Policy(retry=Retry(attempts=3)), memory), down(), down(), "ok", call=call)

    assert [line for line in said if isinstance(line, str)] == [
        "attempt 1",
        "attempt 2",
        "attempt 3",
        "ok",
    ]
    assert sorted(call.tried) == ["a", "b", "c"]


def test_with_one_endpoint_a_retry_asks_it_again():
    memory, call = memory_of("a"), Call(GET)
    play(flow_of(Policy(retry=Retry()), memory), down(), "ok", call=call)
    assert call.tried == ["a", "a"]


def test_the_picker_passes_over_an_open_circuit():
    memory = memory_of("a", "b")
    flow = flow_of(Policy(breaker=Breaker(failures=1)), memory)
    ill = Call(GET)
    play(flow, down(), call=ill)

    for _ in range(10):
        call = Call(GET)
        assert play(flow, "ok", call=call) == ["attempt 1", "ok"]
        assert call.tried != ill.tried


def test_circuit_open_reaches_the_caller_only_when_all_are():
    clock, memory = Clock(), memory_of("a", "b")
    flow = flow_of(Policy(breaker=Breaker(failures=1, cooldown=10.0)), memory, clock)
    play(flow, down(), call=Call(GET))
    clock.advance(4.0)
    play(flow, down(), call=Call(GET))

    steps = flow(Call(GET))
    with pytest.raises(CircuitOpen) as refused:
        next(steps)

    assert refused.value.retry_after == 6.0


def test_without_any_rule_what_was_not_sent_is_sent_again_elsewhere():
    memory, call = memory_of("a", "b", "c"), Call(Method("/test/Charge"))
    unsent = CallFailed(Code.UNAVAILABLE, processed=Processed.NO)
    assert play(flow_of(Policy(), memory), unsent, "ok", call=call)[-1] == "ok"
    assert len(set(call.tried)) == 2
    assert call.attempt == 1


def test_another_method_has_circuits_of_its_own():
    memory = memory_of("a")
    flow = flow_of(Policy(breaker=Breaker(failures=1)), memory)
    play(flow, down(), call=Call(GET))

    assert play(flow, call=Call(GET)) == [CircuitOpen]
    assert play(flow, "ok", call=Call(Method("/other.Service/Get"))) == ["attempt 1", "ok"]


def test_a_call_waits_for_the_first_snapshot():
    memory = Memory()
    steps = flow_of(Policy(), memory)(Call(GET))

    wait = next(steps)
    assert isinstance(wait, Wait)
    assert wait.seconds == 5.0
    memory.publish(snapshot("a"))
    memory.set_ready("a", True)
    assert wait.signal.is_set
    assert steps.send(True).call.endpoint.id == "a"
    steps.close()
    assert memory.in_flight("a") == 0


def test_nobody_to_ask_is_said_at_once_when_discovery_says_so():
    assert play(flow_of(Policy(), memory_of())) == [NoEndpoint]


def test_an_endpoint_that_cannot_be_reached_is_not_waited_for():
    memory = memory_of("a", ready=False)
    memory.set_ready("a", False)
    assert play(flow_of(Policy(), memory)) == [NoEndpoint]


def test_a_call_that_waits_for_ready_waits_until_its_deadline():
    memory = memory_of("a", ready=False)
    memory.set_ready("a", False)
    call = Call(GET, deadline=2.0, wait_for_ready=True)
    clock = Clock()

    said = play(flow_of(Policy(), memory, clock), call=call, clock=clock)

    assert isinstance(said[0], Wait)
    assert said[-1] is DeadlineSpent
    assert clock.now == 2.0


def test_an_attempts_timeout_is_retried_the_calls_never():
    clock, memory = Clock(), memory_of("a", "b")
    policy = Policy(timeout=2.5, attempt_timeout=1.0, retry=Retry(attempts=5))
    flow, hung = flow_of(policy, memory, clock), Takes(None)

    said = play(flow, hung, hung, hung, clock=clock)

    assert [line for line in said if not isinstance(line, Sleep)] == [
        "attempt 1",
        "attempt 2",
        "attempt 3",
        CallFailed,
    ]
    assert clock.now == 2.5


def test_a_bulkhead_is_one_for_the_target():
    memory = memory_of("a")
    flow = flow_of(Policy(bulkhead=Bulkhead(limit=1)), memory)
    first = flow(Call(GET))
    next(first)

    assert play(flow, call=Call(Method("/other.Service/Get"))) == [BulkheadFull]
    first.close()
    assert play(flow, "ok") == ["attempt 1", "ok"]


def test_a_method_may_have_rules_of_its_own():
    policy = Policy(retry=Retry()).override("shop.orders.v1.OrderService/GetOrder", retry=None)
    flow = flow_of(policy, memory_of("a"))

    assert play(flow, down(), call=Call(GET)) == ["attempt 1", CallFailed]
    assert play(flow, down(), "ok")[-1] == "ok"


def test_a_hedge_goes_to_another_endpoint():
    clock, memory, call = Clock(), memory_of("a", "b"), Call(GET)
    flow = flow_of(Policy(hedge=Hedge(delay=0.1)), memory, clock)

    assert play(flow, Takes(9.0), "ok", clock=clock, call=call)[-1] == "ok"
    assert sorted(call.tried) == ["a", "b"]
    assert (memory.in_flight("a"), memory.in_flight("b")) == (0, 0)


def test_a_guard_has_the_column_without_balancing():
    clock, memory = Clock(), Memory()
    policy = Policy(breaker=Breaker(failures=1), retry=Retry(attempts=2))
    guarded = column(policy, memory, clock=clock, rng=Random(1), balanced=False)

    assert play(guarded, down(), "ok")[-1] is CircuitOpen
    assert [(name, path) for name, path, _ in memory.circuits()] == [("", "/test/Call")]


def test_circuits_can_be_seen_and_set():
    memory = memory_of("a")
    flow = flow_of(Policy(breaker=Breaker(failures=1)), memory)
    play(flow, "ok", call=Call(GET))
    assert [(name, circuit.state) for name, _, circuit in memory.circuits()] == [
        ("a", State.CLOSED)
    ]

    memory.set_circuit(State.FORCED_OPEN, 0.0, "a", GET.name)
    assert play(flow, call=Call(GET)) == [CircuitOpen]
    memory.set_circuit(State.CLOSED, 0.0, "a", GET.name)
    assert play(flow, "ok", call=Call(GET)) == ["attempt 1", "ok"]


def test_a_new_policy_keeps_what_is_remembered():
    memory, breaker = memory_of("a"), Breaker(failures=2)
    old = flow_of(Policy(breaker=breaker, bulkhead=Bulkhead(limit=1)), memory)
    play(old, down(), call=Call(GET))
    held = old(Call(GET))
    next(held)

    new = flow_of(Policy(breaker=breaker, bulkhead=Bulkhead(limit=2), timeout=3.0), memory)
    play(new, down(), call=Call(GET))
    assert play(new, call=Call(GET)) == [CircuitOpen]  # one failure under each policy
    held.close()
    assert memory.rules.compartments[""].in_flight == 0


def test_a_method_may_wait_for_ready_by_its_rules():
    memory = memory_of("a", ready=False)
    memory.set_ready("a", False)
    flow = flow_of(Policy(wait_for_ready=True), memory)
    steps = flow(Call(GET, deadline=9.0))
    assert isinstance(next(steps), Wait)
    steps.close()
    assert memory.pool.waiting == 0


def test_only_so_many_calls_wait_for_an_endpoint():
    memory = Memory()
    flow = flow_of(Policy(), memory)
    waiting = [flow(Call(GET)) for _ in range(QUEUE)]
    for steps in waiting:
        next(steps)
    assert play(flow) == [NoEndpoint]
    for steps in waiting:
        steps.close()
    assert memory.pool.waiting == 0


def test_a_fallback_covers_refusals_of_the_whole_column():
    memory = memory_of()
    call = Call(GET)
    assert play(flow_of(Policy(fallback=Fallback(value="nobody home")), memory), call=call) == [
        "nobody home"
    ]
    assert call.notes == [("mesh-fallback", "value")]


def test_an_injected_fault_is_met_like_a_real_one():
    memory = memory_of("a", "b")
    rule = Fault(abort=Abort(code=Code.UNAVAILABLE))
    policy = Policy(retry=Retry(attempts=2), breaker=Breaker(failures=1), fault=rule)
    assert play(flow_of(policy, memory))[-1] is CallFailed
    assert {circuit.state for _, _, circuit in memory.circuits()} == {State.OPEN}


def test_every_layer_is_there_when_it_has_a_rule_and_only_then():
    everything = Policy(
        fallback=Fallback(last_good=True),
        rate_limit=RateLimit(rate=1.0),
        bulkhead=Bulkhead(),
        concurrency=AdaptiveLimit(),
        throttle=ClientThrottle(),
        retry=Retry(),
        breaker=Breaker(),
        attempt_timeout=1.0,
        fault=Fault(abort=Abort()),
    )

    def names(policy, emit):
        build = _Build(policy, "", Memory(), Clock(), Random(1), emit, True)
        return [layer.__qualname__.partition(".")[0] for layer in build.layers()]

    assert names(everything, lambda _: None) == [
        "observing",
        "deadlining",
        "falling_back",
        "limiting",
        "bounding",
        "shedding",
        "throttling",
        "retrying",
        "resending",
        "balancing",
        "breaking_each",
        "timing",
        "observing_attempts",
        "faulting",
    ]
    assert names(Policy(), None) == ["deadlining", "resending", "balancing"]
