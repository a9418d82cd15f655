"""
The pool: everyone whom one client may ask, and a lease on one of them for each attempt.

    publish(snapshot) --+
    set_ready(id, ok) --+--> stale --> at the next pick: candidates --> rule.picker(...)
    an ejection ends  --+                                                   |
                                    lease = pick(call, now)  <--------------+

`pick` never blocks: it returns a lease, or None where waiting for `changed` can help, or raises
NoEndpoint or CircuitOpen.  A pool reads no clock and is not thread-safe: its driver holds the lock.
"""

from __future__ import annotations

from random import Random
from types import TracebackType
from typing import Self

from discovery.model import Endpoint, Health, Snapshot
from mesh.balance.least_request import LeastRequest
from mesh.balance.member import Member
from mesh.balance.picker import Balance, Picker
from mesh.call import Call
from mesh.errors import CallFailed, CircuitOpen, NoEndpoint
from mesh.flow import Signal
from mesh.telemetry.events import Emit, EndpointsChanged, unheard

# "If fewer than half are well, the pool is in panic": asking an ill server beats asking nobody.
PANIC = 0.5


class Pool:
    """Everyone who may be asked, by endpoint id."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.snapshot: Snapshot | None = None
        self.rule: Balance = LeastRequest()
        self.rng = Random()  # replaced by whoever adopts a policy
        self.panic_threshold = PANIC
        self.emit: Emit = unheard
        # Set, and replaced, whenever a pick that failed could succeed now.
        self.changed = Signal()
        self.panic = False
        # How many calls wait for `changed` at this moment.
        self.waiting = 0
        self._picker: Picker | None = None
        self._stale = True
        self._due = float("inf")

    # -- what discovery and the connections say

    def publish(self, snapshot: Snapshot) -> None:
        """Take over all endpoints of a snapshot; members that stay keep what is known of them."""
        members: dict[str, Member] = {}
        for endpoint in snapshot.endpoints:
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

    def pick(self, call: Call, now: float) -> Lease | None:
        """
        A lease on an endpoint for one attempt; it is one nobody tried yet for this call, if any.

        None says to wait for `changed`: no snapshot came yet, or someone is still connecting, or
        the call waits for ready.
        """
        if self._stale or now >= self._due:
            self._rebuild(now)
        picker, method = self._picker, call.method.name
        member = picker.pick(call, now) if picker is not None else None
        if picker is None or member is None:
            self._refuse(call)
            return None
        if not call.tried and member.admits(method, now):
            return Lease(self, member, now)
        closed: set[str] = set()
        soonest: float | None = None
        # First whoever was not tried; then anyone but the last; then, if need be, the last again.
        for avoided in (set(call.tried), set(call.tried[-1:]), set[str]()):
            while (member := picker.pick(call, now, avoided | closed)) is not None:
                circuit = member.circuits.get(method)
                if circuit is None or circuit.admits(now):
                    return Lease(self, member, now)
                closed.add(member.id)
                wait = circuit.retry_after(now)
                soonest = wait if soonest is None else min(soonest, wait)
        if soonest is None:
            self._refuse(call)
            return None
        raise CircuitOpen(soonest)

    def _refuse(self, call: Call) -> None:
        """Raise NoEndpoint, unless waiting can help."""
        connecting = any(member.ready is None for member in self.members.values())
        if self.snapshot is None or connecting or call.wait_for_ready:
            return
        known = len(self.members)
        what = f"none of {known} endpoints can be reached" if known else "no endpoint is known"
        raise NoEndpoint(f"{self.snapshot.service}: {what}")

    def answered(self, lease: Lease, now: float) -> None:
        """The endpoint answered the attempt with OK."""

    def failed(self, lease: Lease, failure: CallFailed, now: float, allowed: float | None) -> None:
        """The attempt failed; `allowed` is how many seconds the call had left when it began."""

    # -- the picker

    def _rebuild(self, now: float) -> None:
        self._stale, self._due = False, float("inf")
        connected = []
        for member in self.members.values():
            if member.ready:
                if member.since is None:
                    member.since = now
                connected.append(member)
        well = [m for m in connected if m.endpoint.health is not Health.CRITICAL]
        panic = len(well) < self.panic_threshold * len(connected)
        candidates = connected if panic else well
        self._picker = self.rule.picker(candidates, self.rng) if candidates else None
        self.panic = panic
        self.emit(EndpointsChanged(len(self.members), len(candidates), panic))


class Lease:
    """One attempt's claim on one endpoint: in flight from `with` to its end, whatever happens."""

    __slots__ = ("_pool", "member", "since")

    def __init__(self, pool: Pool, member: Member, since: float) -> None:
        self._pool = pool
        self.member = member
        self.since = since

    @property
    def endpoint(self) -> Endpoint:
        return self.member.endpoint

    def __enter__(self) -> Self:
        self.member.in_flight += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.member.in_flight -= 1
