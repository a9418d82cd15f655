"""
The pool: everyone whom one client may ask, and whom it asks next.

    publish(snapshot) --+                          zone             slow     split
    set_ready(id, ok) --+--> stale --> at a pick: ------> the well ------> ------> rule.picker()
    an ejection ends  --+                                 of them   start   by tag      |
                                             member = pick(call, now)  <----------------+

`pick` never blocks: it returns a member, or None where waiting for `changed` can help, or raises
NoEndpoint or CircuitOpen.  A pool reads no clock and is not thread-safe: its driver holds the lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from discovery.model import Endpoint, Health, Snapshot
from mesh.balance.least_request import LeastRequest
from mesh.balance.member import Member
from mesh.balance.picker import Balance, Picker
from mesh.balance.slow_start import STEPS, SlowStart
from mesh.balance.split import Split
from mesh.balance.subset import Subset
from mesh.balance.zones import Failover, Zones
from mesh.call import Call
from mesh.errors import CallFailed, CircuitOpen, Code, NoEndpoint, Processed
from mesh.flow import Signal
from mesh.policy.illness import Sign, sign_of
from mesh.policy.outlier import Detector, Outlier, Tally
from mesh.telemetry.events import Emit, EndpointsChanged, unheard

NEVER = float("inf")


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrangement:
    """The rules of a pool: which of the endpoints are asked, and in which proportion."""

    balance: Balance
    # With fewer than this part of the reachable endpoints well, all are asked.
    panic_threshold: float = 0.5
    outlier: Outlier | None = None
    subset: Subset | None = None
    zones: Zones | None = None
    slow_start: SlowStart | None = None
    split: Split | None = None


class Pool:
    """Everyone who may be asked, by endpoint id."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.snapshot: Snapshot | None = None
        self.rules = Arrangement(balance=LeastRequest())
        # Set, and replaced, whenever a pick that failed could succeed now.
        self.changed = Signal()
        # How many calls wait for `changed` at this moment.
        self.waiting = 0
        self.panic = False
        self._emit: Emit = unheard
        self._rng = Random(0)
        # Which subset is this client's own.
        self._seed: int | None = None
        self._detector: Detector | None = None
        self._failover: Failover | None = None
        self._picker: Picker | None = None
        self._stale = True
        self._due = NEVER
        # Whether anybody asks how long answers take.
        self._timed = False

    def adopt(self, rules: Arrangement, rng: Random, emit: Emit) -> None:
        """Put other rules in force; members keep what is known of them."""
        before, self.rules, self._rng, self._emit = self.rules, rules, rng, emit
        if self._seed is None:
            self._seed = rng.getrandbits(64)
        if rules.outlier is None:
            self._detector = None
            for tally in self._tallies():
                tally.ejected_at = None
        elif self._detector is None or rules.outlier != before.outlier:
            self._detector = Detector(rules.outlier, rng, emit)
        self._timed = getattr(rules.balance, "latency", False)
        self._failover = Failover(rules.zones) if rules.zones is not None else None
        if self.snapshot is not None:
            self.publish(self.snapshot)

    # -- what discovery and the connections say

    def select(self, endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
        """Those of `endpoints` that this client keeps connections to."""
        subset = self.rules.subset
        return tuple(endpoints) if subset is None else subset.choose(endpoints, self._seed or 0)

    def publish(self, snapshot: Snapshot) -> None:
        """Take over all endpoints of a snapshot; members that stay keep what is known of them."""
        members: dict[str, Member] = {}
        for endpoint in self.select(snapshot.endpoints):
            member = self.members.get(endpoint.id)
            if member is None or member.endpoint.address != endpoint.address:
                member = Member(endpoint)
            member.endpoint = endpoint
            members[endpoint.id] = member
        self.members, self.snapshot = members, snapshot
        self.stir()

    def set_ready(self, endpoint_id: str, ready: bool, address: str | None = None) -> None:
        """
        Say whether an endpoint can be called now; False also means that connecting just failed.

        What is said of another `address` than the endpoint's present one comes too late to count.
        """
        member = self.members.get(endpoint_id)
        if member is None or (address is not None and member.endpoint.address != address):
            return
        if member.ready is not ready:
            member.ready = ready
            member.since = None
            self.stir()

    def stir(self) -> None:
        """Make a new picker at the next pick, and wake who waits for one."""
        self._stale = True
        changed, self.changed = self.changed, Signal()
        changed.set()

    # -- picking

    def pick(self, call: Call, now: float) -> Member | None:
        """
        Whom to ask with one attempt: somebody nobody tried yet for this call, if there is one.

        None says to wait for `changed`: no snapshot came yet, or someone is still connecting, or
        the call waits for ready.
        """
        if self._stale or now >= self._due:
            self._rebuild(now)
        picker = self._picker
        member = picker.pick(call, now) if picker is not None else None
        if picker is None or member is None:
            self._refuse(call)
            return None
        if not call.tried and member.admits(call.method.name, now):
            return member
        return self._pick_another(picker, call, now)

    def _pick_another(self, picker: Picker, call: Call, now: float) -> Member:
        """One who was not tried; then anyone but the last; then, if need be, the last again."""
        closed: set[str] = set()
        soonest: float | None = None
        for avoided in (set(call.tried), set(call.tried[-1:]), set[str]()):
            while (member := picker.pick(call, now, avoided | closed)) is not None:
                circuit = member.circuits.get(call.method.name)
                if circuit is None or circuit.admits(now):
                    return member
                closed.add(member.id)
                wait = circuit.retry_after(now)
                soonest = wait if soonest is None else min(soonest, wait)
        raise CircuitOpen(soonest or 0.0)

    def _refuse(self, call: Call) -> None:
        """Raise NoEndpoint, unless waiting can help."""
        connecting = any(member.ready is None for member in self.members.values())
        if self.snapshot is None or connecting or call.wait_for_ready:
            return
        known = len(self.members)
        what = f"none of {known} endpoints can be reached" if known else "no endpoint is known"
        raise NoEndpoint(f"{self.snapshot.service}: {what}")

    # -- what attempts report

    def answered(self, member: Member, call: Call, began: float, now: float) -> None:
        """It answered with OK."""
        if self._timed and not call.method.streams_replies:
            member.latency.add(now - began, now)
        member.answered(call.method.name, now)
        member.tally.succeeded()

    def failed(
        self, member: Member, call: Call, failure: CallFailed, began: float, now: float
    ) -> None:
        """The attempt that began then has failed."""
        sign, method = sign_of(failure, call.remaining(began)), call.method.name
        # A server says so by ErrorInfo.  REFUSED_STREAM and GOAWAY come without: what they say is
        # of one call, or of a connection that is gone already.
        if failure.processed is Processed.REFUSED and failure.reason:
            self._leaving(member)
        if sign is Sign.SILENT:
            return
        if self._timed and failure.code is not Code.UNAVAILABLE:
            # Refusing is fast, so it says nothing of how fast work is.
            member.latency.add(now - began, now)
        if sign is Sign.WELL:
            member.answered(method, now)
        elif sign is Sign.BEYOND:
            member.failed_beyond(method, now)
        else:
            member.failed(now)
        if sign is not Sign.ILL:
            member.tally.succeeded()
        elif self._detector is None:
            member.tally.failed()
        elif self._detector.failed(member.tally, self._tallies(), now):
            self.stir()

    def _leaving(self, member: Member) -> None:
        """
        It refuses whatever is new, because it is about to stop: nobody asks it any more.

        What its connection does next says more: it goes, and the next one is to a new server.
        """
        if member.ready:
            member.ready = None
            member.since = None
            self.stir()

    def _tallies(self) -> list[Tally]:
        return [member.tally for member in self.members.values()]

    def returns_in(self, tally: Tally, now: float) -> float:
        """For how many seconds an ejected endpoint is left out at least; 0 for all others."""
        if self._detector is None or tally.ejected_at is None:
            return 0.0
        return max(0.0, self._detector.returns_at(tally) - now)

    # -- the picker

    def _rebuild(self, now: float) -> None:
        self._stale, self._due = False, NEVER
        if self._detector is not None:
            self._sweep(self._detector, now)
        connected, well = set[str](), set[str]()
        for member in self.members.values():
            if member.ready:
                member.since = now if member.since is None else member.since
                connected.add(member.id)
                critical = member.endpoint.health is Health.CRITICAL
                if not critical and member.tally.ejected_at is None:
                    well.add(member.id)
        zone = list(self.members.values())
        if self._failover is not None:
            zone = self._failover.choose(zone, well, now)
            self._due = min(self._due, self._failover.due)
        reachable = [member for member in zone if member.id in connected]
        candidates = [member for member in reachable if member.id in well]
        # An ill server may still answer, and the few well ones would drown in everybody's calls.
        self.panic = len(candidates) < self.rules.panic_threshold * len(reachable)
        if self.panic:
            candidates = reachable
        # Weight 0 is for when nothing else is left; then all are alike.
        candidates = [one for one in candidates if one.endpoint.weight] or candidates
        self._weigh(candidates, now)
        self._picker = self._make(candidates) if candidates else None
        where = candidates[0].endpoint.zone if candidates and self._failover else ""
        self._emit(EndpointsChanged(len(self.members), len(candidates), self.panic, where))

    def _sweep(self, detector: Detector, now: float) -> None:
        if detector.due is None:
            detector.due = now + detector.rule.interval
        elif now >= detector.due:
            detector.sweep(self._tallies(), now)
        self._due = min(self._due, detector.due)

    def _weigh(self, candidates: Sequence[Member], now: float) -> None:
        slow = self.rules.slow_start
        for member in candidates:
            share = 1.0
            if slow is not None:
                share = slow.share(now - (member.since if member.since is not None else now))
                if share < 1.0:
                    self._due = min(self._due, now + slow.window / STEPS)
            member.weight = (member.endpoint.weight or 1) * share

    def _make(self, candidates: Sequence[Member]) -> Picker:
        balance, split, rng = self.rules.balance, self.rules.split, self._rng
        if split is None:
            return balance.picker(candidates, rng)
        return split.picker(candidates, rng, lambda members: balance.picker(members, rng))
