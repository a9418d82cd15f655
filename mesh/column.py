"""
The column: all layers of a target in their order, and the memory that they share.

    deadlining     min(caller's, what is left of the inbound call, the method's maximum)
    bounding       bulkhead: refuse before any work is done
    retrying       within one budget per target: the only layer that repeats
    balancing      a lease on one endpoint; a retry asks for another
    breaking       per endpoint and method, on the true final status
    timing         attempt timeout, inside the deadline
    -> Attempt     the wire

A `Memory` outlives its columns: a new policy is a new column over the same memory.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from discovery.model import Snapshot
from mesh.balance.lease import balancing
from mesh.balance.pool import Lease, Pool
from mesh.call import Call
from mesh.flow import Inner, Layer, Signal, Steps, stack
from mesh.policy.breaker import Breaker, breaking_each
from mesh.policy.budget import Throttle
from mesh.policy.bulkhead import Bulkhead, Compartment, bounding
from mesh.policy.circuit import Circuit, State
from mesh.policy.config import Policy, Rules
from mesh.policy.deadline import deadlining
from mesh.policy.retry import retrying
from mesh.policy.timing import timing
from mesh.telemetry.events import CircuitChanged, Emit, unheard

Clock = Callable[[], float]


class Memory:
    """
    What one target's layers remember: who can be asked, what is in flight, what has failed.

    The client calls `publish` with every snapshot and `set_ready` with every change of a
    connection.  Nothing here reads a clock or locks: whoever drives flows holds the lock.
    """

    def __init__(self) -> None:
        self.pool = Pool()
        self.throttle = Throttle()
        self.compartments: dict[str, Compartment] = {}
        # Of calls that no endpoint was chosen for: guards and plain channels.
        self.circuits: dict[str, Circuit] = {}
        self.emit: Emit = unheard

    def adopt(self, policy: Policy, rng: Random, emit: Emit) -> None:
        """Put a policy in force; what is remembered stays, as far as the rules allow."""
        self.emit = self.pool.emit = emit
        self.throttle.resize(policy.retry_tokens)
        self.pool.rule, self.pool.rng = policy.balance, rng
        self.pool.stir()

    def publish(self, snapshot: Snapshot) -> None:
        """Take over a snapshot: all endpoints there are."""
        self.pool.publish(snapshot)

    def set_ready(self, endpoint_id: str, ready: bool, address: str | None = None) -> None:
        """Say whether an endpoint can be called; False also when connecting to it failed."""
        self.pool.set_ready(endpoint_id, ready, address)

    @property
    def changed(self) -> Signal:
        """Set when a pick that failed could succeed now; another one takes its place then."""
        return self.pool.changed

    def pick(self, call: Call, now: float) -> Lease | None:
        """A lease (a context manager) on one endpoint; None: wait for `changed`."""
        return self.pool.pick(call, now)

    def in_flight(self, endpoint_id: str) -> int:
        """How many attempts an endpoint has in flight from here."""
        member = self.pool.members.get(endpoint_id)
        return member.in_flight if member is not None else 0

    def compartment(self, scope: str, rule: Bulkhead) -> Compartment:
        """The bulkhead of a scope; given another rule it changes its limit in place."""
        compartment = self.compartments.get(scope)
        if compartment is None:
            compartment = self.compartments[scope] = Compartment(rule)
        elif compartment.rule != rule:
            compartment.resize(rule)
        return compartment

    def circuit(self, call: Call, rule: Breaker) -> Circuit:
        """The circuit of the call's endpoint and method; without endpoint, of its method."""
        endpoint, method = call.endpoint, call.method.name
        member = self.pool.members.get(endpoint.id) if endpoint is not None else None
        circuits = member.circuits if member is not None else self.circuits
        circuit = circuits.get(method)
        if circuit is None or (circuit.rule is not rule and circuit.rule != rule):
            name = endpoint.id if endpoint is not None else ""

            def changed(before: State, after: State) -> None:
                self.emit(CircuitChanged(name, method, before.name, after.name))

            circuit = circuits[method] = Circuit(rule, changed)
        return circuit


def column(
    policy: Policy | None,
    memory: Memory,
    *,
    clock: Clock,
    rng: Random,
    emit: Emit | None = None,
    balanced: bool = True,
) -> Inner:
    """
    The flow of every call to a target: ``drive(column(...)(call), ...)``.

    Not `balanced`, it chooses no endpoint: for guards, and for channels of somebody else's.
    Without a policy, it is Policy.production().
    """
    policy = policy or Policy.production()
    memory.adopt(policy, rng, emit or unheard)
    stacks: dict[str, Inner] = {}

    def flow(call: Call) -> Steps:
        scope = policy.scope(call.method.name)
        inner = stacks.get(scope)
        if inner is None:
            rules = policy.rules(call.method.name)
            layers = _layers(policy, rules, scope, memory, clock, rng, emit or unheard, balanced)
            inner = stacks[scope] = stack(*layers)
        return inner(call)

    return flow


def _layers(
    policy: Policy,
    rules: Rules,
    scope: str,
    memory: Memory,
    clock: Clock,
    rng: Random,
    emit: Emit,
    balanced: bool,
) -> list[Layer]:
    layers = [deadlining(rules.timeout, clock, reserve=rules.reserve, floor=rules.floor)]
    if (bulkhead := rules.bulkhead) is not None:
        # A scope without a bulkhead of its own shares the target's.
        shared = "" if bulkhead == policy.bulkhead else scope
        layers.append(bounding(memory.compartment(shared, bulkhead)))
    if rules.retry is not None:
        layers.append(retrying(rules.retry, rng, throttle=memory.throttle, clock=clock, emit=emit))
    if balanced:
        layers.append(balancing(memory.pool, clock))
    if (breaker := rules.breaker) is not None:
        layers.append(breaking_each(lambda call: memory.circuit(call, breaker), clock))
    if rules.attempt_timeout is not None:
        layers.append(timing(rules.attempt_timeout, clock))
    return layers
