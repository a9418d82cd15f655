"""
The column: all layers of a target in their order, outermost first, and the memory they share.

    observing      one span and one record per call, whatever happens below
    deadlining     min(caller's, what is left of the inbound call, the method's maximum)
    falling_back   a value or the last good answer, when the rule has one
    limiting       local rate limit, by criticality
    bounding       bulkhead: refuse before any work is done
    shedding       the same with a limit that finds itself
    throttling     refuse what the server would refuse
    retrying       or hedging, within one budget per target: the only layer that repeats
    resending      again what no handler can have seen, with or without a retry rule
    balancing      a lease on one endpoint; a retry asks for another
    breaking       per endpoint and method, on the true final status
    timing         attempt timeout, inside the deadline
    observing      one span per attempt
    faulting       injected delay and abort
    -> Attempt     the wire

A `Memory` outlives its columns: a new policy is a new column over the same memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from discovery.model import Endpoint, Snapshot
from mesh.balance.lease import balancing
from mesh.balance.member import Member
from mesh.balance.pool import Pool
from mesh.call import Call
from mesh.flow import Inner, Layer, Signal, Steps, stack
from mesh.policy.adaptive import shedding
from mesh.policy.breaker import Breaker, breaking_each
from mesh.policy.bulkhead import bounding
from mesh.policy.circuit import Circuit, State
from mesh.policy.config import Policy, Rules
from mesh.policy.deadline import deadlining
from mesh.policy.fallback import falling_back
from mesh.policy.fault import faulting
from mesh.policy.hedge import hedging
from mesh.policy.limit import limiting
from mesh.policy.memories import Memories
from mesh.policy.observe import observing, observing_attempts
from mesh.policy.resend import resending
from mesh.policy.retry import retrying
from mesh.policy.throttle import throttling
from mesh.policy.timing import timing
from mesh.telemetry.events import CircuitChanged, Emit, unheard

Clock = Callable[[], float]
# The columns of so many methods are kept ready; with more, all are built anew.
METHODS = 4096


class Memory:
    """
    What one target's layers remember: who can be asked, what is in flight, what has failed.

    The client calls `publish` with every snapshot and `set_ready` with every change of a
    connection.  Nothing here reads a clock or locks: whoever drives flows holds the lock.
    """

    def __init__(self) -> None:
        self.pool = Pool()
        self.rules = Memories()
        # Of calls that no endpoint was chosen for: guards and plain channels.
        self._circuits: dict[str, Circuit] = {}
        # What an operator says of circuits, by endpoint and method; "" stands for every one.
        self._by_hand: dict[tuple[str, str], State] = {}
        self._emit: Emit = unheard

    def adopt(self, policy: Policy, rng: Random, emit: Emit) -> None:
        """Put a policy in force; what is remembered stays, as far as the rules allow."""
        self._emit = emit
        self.rules.throttle.resize(policy.retry_tokens)
        self.pool.adopt(policy.arrangement, rng, emit)

    def select(self, snapshot: Snapshot) -> tuple[Endpoint, ...]:
        """The endpoints that this client connects to: all, but for a subset rule."""
        return self.pool.select(snapshot.endpoints)

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

    def pick(self, call: Call, now: float) -> Member | None:
        """Whom to ask with the next attempt; None: wait for `changed`."""
        return self.pool.pick(call, now)

    def in_flight(self, endpoint_id: str) -> int:
        """How many attempts an endpoint has in flight from here."""
        member = self.pool.members.get(endpoint_id)
        return member.in_flight if member is not None else 0

    def circuit(self, call: Call, rule: Breaker) -> Circuit:
        """The circuit of the call's endpoint and method; without endpoint, of its method."""
        endpoint, name = call.endpoint, call.method.name
        member = self.pool.members.get(endpoint.id) if endpoint is not None else None
        circuits = member.circuits if member is not None else self._circuits
        circuit = circuits.get(name)
        if circuit is None or (circuit.rule is not rule and circuit.rule != rule):
            where = endpoint.id if endpoint is not None else ""
            circuit = self._make(where, name, rule, streams=call.method.streams_replies)
            circuits[name] = circuit
        return circuit

    def _make(self, endpoint: str, method: str, rule: Breaker, *, streams: bool) -> Circuit:
        def changed(before: State, after: State) -> None:
            self._emit(CircuitChanged(endpoint, method, before.name, after.name))

        circuit = Circuit(rule, changed, streams=streams)
        for place in ((endpoint, method), (endpoint, ""), ("", method), ("", "")):
            if (state := self._by_hand.get(place)) is not None:
                circuit.set(state, 0.0)
                break
        return circuit

    def circuits(self) -> Iterator[tuple[str, str, Circuit]]:
        """Every circuit there is, with its endpoint ("" for a guard's) and method."""
        for method, circuit in self._circuits.items():
            yield "", method, circuit
        for member in self.pool.members.values():
            for method, circuit in member.circuits.items():
                yield member.id, method, circuit

    def set_circuit(self, state: State, now: float, endpoint: str = "", method: str = "") -> None:
        """
        Put circuits into a state by hand: of an endpoint and method, of all where "" is said.

        It holds for circuits that are made later too, until CLOSED gives them back.
        """
        for place in list(self._by_hand):
            if endpoint in ("", place[0]) and method in ("", place[1]):
                del self._by_hand[place]
        if state is not State.CLOSED or self._by_hand:
            self._by_hand[endpoint, method] = state
        known = {path: circuit for _, path, circuit in self.circuits()}
        for member in self.pool.members.values():
            for path in known.keys() - member.circuits.keys():
                # A call is to pass over this endpoint, not to find out by being refused.
                rule, streams = known[path].rule, known[path].streams
                member.circuits[path] = self._make(member.id, path, rule, streams=streams)
        for name, path, circuit in self.circuits():
            if endpoint in ("", name) and method in ("", path):
                circuit.set(state, now)
        self.pool.stir()


class Columns(dict[str, Inner]):
    """The columns of a target, by its methods' paths: a method's is built when first asked for."""

    def __init__(self, build: Callable[[str], Inner]) -> None:
        super().__init__()
        self._build = build

    def __missing__(self, method: str) -> Inner:
        if len(self) >= METHODS:
            self.clear()
        self[method] = inner = self._build(method)
        return inner

    def __call__(self, call: Call) -> Steps:
        return self[call.method.name](call)


def column(
    policy: Policy | None,
    memory: Memory,
    *,
    clock: Clock,
    rng: Random,
    emit: Emit | None = None,
    balanced: bool = True,
) -> Columns:
    """
    The flow of every call to a target: ``drive(column(...)(call), ...)``.

    Not `balanced`, it chooses no endpoint: for guards, and for channels of somebody else's.
    Without a policy, it is Policy.production(); without `emit`, nobody observes.
    """
    rules = policy or Policy.production()
    memory.adopt(rules, rng, emit or unheard)

    def build(method: str) -> Inner:
        scope = rules.scope(method)
        inner = stack(*_Build(rules, scope, memory, clock, rng, emit, balanced).layers())
        return _patient(inner) if rules.rules_of(scope).wait_for_ready else inner

    return Columns(build)


def _patient(inner: Inner) -> Inner:
    def flow(call: Call) -> Steps:
        call.wait_for_ready = True
        return inner(call)

    return flow


@dataclass(frozen=True, slots=True)
class _Build:
    """What the layers of one scope are made of."""

    policy: Policy
    scope: str
    memory: Memory
    clock: Clock
    rng: Random
    emit: Emit | None
    balanced: bool

    def layers(self) -> Iterator[Layer]:
        """The column, outermost first; a rule that is None is a layer that is not there."""
        memory, clock, rng = self.memory, self.clock, self.rng
        rules, emit = self.policy.rules_of(self.scope), self.emit or unheard
        if self.emit is not None:
            yield observing(clock, rng, emit)
        yield deadlining(rules.timeout, clock, reserve=rules.reserve, floor=rules.floor)
        if rules.fallback is not None:
            larder = memory.rules.larder(self.shared("fallback"), rules.fallback)
            yield falling_back(larder, clock, emit=emit)
        if rules.rate_limit is not None:
            yield limiting(memory.rules.meter(self.shared("rate_limit"), rules.rate_limit), clock)
        if rules.bulkhead is not None:
            yield bounding(memory.rules.compartment(self.shared("bulkhead"), rules.bulkhead))
        if rules.concurrency is not None:
            scope = self.shared("concurrency")
            yield shedding(memory.rules.concurrency(scope, rules.concurrency), clock)
        if rules.throttle is not None:
            scope = self.shared("throttle")
            yield throttling(memory.rules.acceptance(scope, rules.throttle), clock, rng)
        yield from self.repeating(rules, emit)
        if self.balanced:
            yield balancing(memory.pool, clock)
        if (breaker := rules.breaker) is not None:
            yield breaking_each(memory.circuit, breaker, clock)
        if rules.attempt_timeout is not None:
            yield timing(rules.attempt_timeout, clock)
        if self.emit is not None:
            yield observing_attempts(clock, rng, emit)
        if rules.fault is not None:
            yield faulting(rules.fault, rng, active=memory.rules.faults, emit=emit)

    def repeating(self, rules: Rules, emit: Emit) -> Iterator[Layer]:
        """What repeats calls: by rule, where there is one, and what nobody saw, always."""
        throttle, clock = self.memory.rules.throttle, self.clock
        if rules.hedge is not None:
            yield hedging(rules.hedge, clock, throttle=throttle, emit=emit)
        elif rules.retry is not None:
            yield retrying(rules.retry, self.rng, throttle=throttle, clock=clock, emit=emit)
        yield resending(self.rng, clock, emit=emit)

    def shared(self, field: str) -> str:
        """The scope of a rule's memory: the target's, unless this scope has a rule of its own."""
        own = getattr(self.policy.rules_of(self.scope), field)
        return "" if own == getattr(self.policy, field) else self.scope
