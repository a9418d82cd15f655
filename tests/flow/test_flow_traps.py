"""Where toy implementations go wrong, as far as it shows without a wire: one transcript a trap."""

from __future__ import annotations

from random import Random

from discovery.model import Endpoint, Snapshot
from mesh.call import Call, Idempotency, Method
from mesh.column import Memory, column
from mesh.errors import CallFailed, CircuitOpen, Code
from mesh.flow import Inner, stack
from mesh.policy.breaker import Breaker
from mesh.policy.config import Policy
from mesh.policy.retry import Retry, retrying
from mesh.testing import Clock, play

GET = Method("/shop.Orders/Get", idempotency=Idempotency.IDEMPOTENT)
DOWN = CallFailed(Code.UNAVAILABLE)


def test_jitter_goes_both_ways_by_a_fifth() -> None:
    rng, waits = Random(5), []
    for _ in range(300):
        flow = stack(retrying(Retry(attempts=2, base=0.1), rng))
        waits.append(play(flow, DOWN, "ok", call=Call(GET))[1].seconds)

    assert 0.08 <= min(waits) < 0.085
    assert 0.115 < max(waits) <= 0.12
    assert 0.098 < sum(waits) / len(waits) < 0.102


def target(memory: Memory, policy: Policy) -> Inner:
    return column(policy, memory, clock=Clock(), rng=Random(1))


def known(*names: str) -> Memory:
    memory = Memory()
    ends = [Endpoint(name, "10.0.0.1", number) for number, name in enumerate(names, 1)]
    memory.publish(Snapshot("orders", tuple(ends), 1))
    for name in names:
        memory.set_ready(name, True)
    return memory


def test_a_circuit_is_one_channels_of_one_process_and_of_all_its_calls() -> None:
    """N workers have N circuits: each finds out for itself, within its own `failures` calls."""
    policy = Policy(breaker=Breaker(failures=2))
    mine, another = known("a"), known("a")
    for _ in range(2):
        play(target(mine, policy), DOWN, call=Call(GET))

    assert play(target(mine, policy), call=Call(GET)) == [CircuitOpen]
    assert play(target(another, policy), "ok", call=Call(GET)) == ["attempt 1", "ok"]


def test_the_breaker_sees_every_attempt_and_the_retry_every_other_endpoint() -> None:
    """Outside the retry it would count three failures as one, and open for all endpoints."""
    memory = known("a", "b", "c")
    policy = Policy(retry=Retry(attempts=3, base=0.01), breaker=Breaker(failures=1))
    said = play(target(memory, policy), DOWN, DOWN, "ok", call=Call(GET))

    assert [line for line in said if isinstance(line, str)] == [
        "attempt 1",
        "attempt 2",
        "attempt 3",
        "ok",
    ]
    states = sorted(circuit.state.name for _, _, circuit in memory.circuits())
    assert states == ["CLOSED", "OPEN", "OPEN"]
