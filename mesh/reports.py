"""
What a channel can be asked, and told, about its target while it runs: values for an operator.

    channel.endpoints()                                  who is known, reachable, ejected, how busy
    channel.circuits()                                   every circuit: its state and what it counts
    channel.set_circuit(State.FORCED_OPEN, endpoint="orders-2")           nobody calls this one
    channel.set_circuit(State.DISABLED, method="/shop.orders.v1.OrderService/GetOrder")
    channel.set_circuit(State.CLOSED)                    all are given back to their rules

The values are frozen: a report says how things were when it was made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mesh.column import Memory
from mesh.errors import PolicyError
from mesh.policy.breaker import Breaker
from mesh.policy.circuit import BY_HAND, State
from mesh.policy.config import Policy


@dataclass(frozen=True, slots=True)
class CircuitReport:
    """One circuit; `calls`, `failures` and `slow` are its window's, 0 where no rate is in force."""

    endpoint: str
    method: str
    state: State
    # Seconds until a call may be let through again; 0 when one may now, None when nobody knows.
    retry_after: float | None
    calls: int
    failures: int
    slow: int


@dataclass(frozen=True, slots=True)
class EndpointReport:
    """One endpoint as this channel knows it."""

    id: str
    address: str
    tags: tuple[str, ...]
    zone: str
    # The registry's, less while it starts slowly.
    weight: float
    # What the registry says: passing, warning, critical.
    health: str
    # Whether there is a connection; None before that is known.
    ready: bool | None
    in_flight: int
    # Left out as an outlier, and for how many seconds at least (until the sweep after).
    ejected: bool
    returns_in: float
    # How many calls in a row have failed.
    failing: int


def circuits(memory: Memory, now: float) -> tuple[CircuitReport, ...]:
    """Every circuit there is, by endpoint and method."""
    return tuple(sorted(_circuits(memory, now), key=lambda each: (each.endpoint, each.method)))


def _circuits(memory: Memory, now: float) -> Iterator[CircuitReport]:
    for endpoint, method, circuit in memory.circuits():
        wait = 0.0
        if not circuit.admits(now):
            wait = circuit.retry_after(now)
        total = circuit.total(now)
        known = circuit.state is not State.FORCED_OPEN
        yield CircuitReport(
            endpoint,
            method,
            circuit.state,
            wait if known else None,
            total.calls,
            total.failures,
            total.slow,
        )


def endpoints(memory: Memory, now: float) -> tuple[EndpointReport, ...]:
    """Every endpoint there is, by id."""
    found = []
    for name in sorted(memory.pool.members):
        member = memory.pool.members[name]
        endpoint, tally = member.endpoint, member.tally
        found.append(
            EndpointReport(
                name,
                endpoint.address,
                endpoint.tags,
                endpoint.zone,
                member.weight,
                endpoint.health.value,
                member.ready,
                member.in_flight,
                tally.ejected_at is not None,
                memory.pool.returns_in(tally, now),
                tally.streak,
            )
        )
    return tuple(found)


def set_circuit(
    memory: Memory, policy: Policy, state: State, now: float, endpoint: str = "", method: str = ""
) -> None:
    """
    Put circuits into a state by hand: of one endpoint and method, or of all where "" is said.

    It holds for circuits that are made later too, until State.CLOSED gives them back.
    """
    if state not in BY_HAND:
        allowed = ", ".join(choice.name for choice in BY_HAND)
        raise PolicyError("circuit.state", state.name, f"is not one of {allowed}")
    if endpoint and endpoint not in memory.pool.members:
        raise PolicyError("circuit.endpoint", endpoint, "is not an endpoint of this target")
    if not any(rule is not None for rule in _breakers(policy, method)):
        raise PolicyError("circuit.method", method, "has no breaker in the policy in force")
    memory.set_circuit(state, now, endpoint, method)


def _breakers(policy: Policy, method: str) -> list[Breaker | None]:
    if method:
        return [policy.rules(method).breaker]
    return [policy.breaker, *(rules.breaker for rules in policy.methods.values())]
