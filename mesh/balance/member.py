"""
A member: what one client remembers of one endpoint, for as long as discovery lists it there.

Its in-flight count is what least request compares, its circuits are one a method, its tally is
what outlier detection reads.  An endpoint that moves to another address becomes a new member.
"""

from __future__ import annotations

from discovery.model import Endpoint
from mesh.balance.latency import Latency
from mesh.policy.circuit import CLOSED, Circuit
from mesh.policy.outlier import Tally

# A failure in a row counts as a call in flight for so long, and so many of them at most.
AVOIDED_SECONDS = 1.0
LONGEST_AVOIDED = 5.0


class Member:
    """One endpoint as this client knows it."""

    __slots__ = (
        "avoided_until",
        "circuits",
        "endpoint",
        "id",
        "in_flight",
        "latency",
        "ready",
        "since",
        "tally",
        "weight",
    )

    def __init__(self, endpoint: Endpoint) -> None:
        self.id = endpoint.id
        self.endpoint = endpoint
        # None while it has never been known to be reachable or not.
        self.ready: bool | None = None
        # When it became ready, as far as a pick has noticed: slow start counts from there.
        self.since: float | None = None
        self.in_flight = 0
        # The registry's weight, less while it starts slowly; pickers read this one.
        self.weight = float(endpoint.weight)
        self.latency = Latency()
        self.circuits: dict[str, Circuit] = {}
        self.tally = Tally(endpoint.id)
        # Until when failures in a row count as load: the longer the more there were.
        self.avoided_until = 0.0

    def admits(self, method: str, now: float) -> bool:
        """Whether this endpoint's circuit for `method` would let a call through."""
        circuit = self.circuits.get(method)
        return circuit is None or circuit.state is CLOSED or circuit.admits(now)

    def failed(self, now: float) -> None:
        """An attempt has failed, which the tally has counted."""
        self.avoided_until = now + min(self.tally.streak * AVOIDED_SECONDS, LONGEST_AVOIDED)

    def load(self, now: float) -> float:
        """How busy it is for its weight; failures in a row weigh as calls in flight for a while."""
        streak = self.tally.streak if now < self.avoided_until else 0
        return (self.in_flight + streak + 1) / self.weight

    def __repr__(self) -> str:
        return f"<{self.id} ready={self.ready} in_flight={self.in_flight}>"
