"""
A member: what one client remembers of one endpoint, for as long as discovery lists it there.

Its in-flight count is what least request compares, its circuits are one a method, its tally is
what outlier detection reads.  An endpoint that moves to another address becomes a new member.
"""

from __future__ import annotations

from discovery.model import Endpoint
from mesh.balance.latency import Latency
from mesh.call import Call
from mesh.policy.circuit import CLOSED, Circuit
from mesh.policy.outlier import Tally

# A failure in a row counts as a call in flight for so long, and so many of them at most.
AVOIDED_SECONDS = 1.0
LONGEST_AVOIDED = 5.0
# More failures in a row than this weigh no more: once the outage behind all of them is over, who is
# first to hear of it must not be everyone's choice.
HEAVIEST = 20
# Who has calls to answer and answers none for so long, seconds, counts as one call busier, and as
# one more for each time as long again: a hung server is told by its silence, before any timeout.
LATE = 0.1
# The load of one on trial, for all calls but the one that shall decide.
NOT_YET = float("inf")


class Setbacks:
    """Failures in a row: how many weigh as load, and until when: the longer the more there were."""

    __slots__ = ("streak", "until")

    def __init__(self) -> None:
        self.streak = 0
        self.until = 0.0

    def add(self, now: float) -> None:
        """One more, in a row."""
        self.streak = min(self.streak + 1, HEAVIEST)
        self.until = now + min(self.streak * AVOIDED_SECONDS, LONGEST_AVOIDED)

    def weight(self, now: float) -> int:
        """As how many calls in flight they count now."""
        return self.streak if now < self.until else 0


class Member:
    """One endpoint as this client knows it."""

    __slots__ = (
        "awaited",
        "beyond",
        "circuits",
        "endpoint",
        "heard",
        "id",
        "in_flight",
        "latency",
        "ready",
        "setbacks",
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
        # Those of them that one answer ends, and when the last such answer came, or the first of
        # them was asked: a stream may be as silent as it likes.
        self.awaited = 0
        self.heard = 0.0
        # The registry's weight, less while it starts slowly; pickers read this one.
        self.weight = float(endpoint.weight)
        self.latency = Latency()
        self.circuits: dict[str, Circuit] = {}
        self.tally = Tally(endpoint.id)
        self.setbacks = Setbacks()
        # The same for who is behind it, by the method that needs them.
        self.beyond: dict[str, Setbacks] = {}

    def admits(self, method: str, now: float) -> bool:
        """Whether this endpoint's circuit for `method` would let a call through."""
        circuit = self.circuits.get(method)
        return circuit is None or circuit.state is CLOSED or circuit.admits(now)

    def begin(self, now: float, lasting: bool) -> None:
        """An attempt is on its way; a stream of replies is `lasting`: its answer is not awaited."""
        self.in_flight += 1
        if not lasting:
            if not self.awaited:
                self.heard = now
            self.awaited += 1

    def end(self, lasting: bool) -> None:
        """The attempt is over, whatever came of it."""
        self.in_flight -= 1
        if not lasting:
            self.awaited -= 1

    def answered(self, method: str, now: float) -> None:
        """It has answered, well or with a status that shows it at work."""
        self.heard = now
        self.setbacks.streak = 0
        if self.beyond:
            self.beyond.pop(method, None)

    def failed(self, now: float) -> None:
        """An attempt has failed, and it is to blame."""
        self.setbacks.add(now)

    def failed_beyond(self, method: str, now: float) -> None:
        """It has answered that somebody behind it has failed."""
        self.heard = now
        self.beyond.setdefault(method, Setbacks()).add(now)

    def load(self, call: Call, now: float) -> float:
        """How busy it is for its weight; failures in a row and silence weigh as calls in flight."""
        tally = self.tally
        if tally.on_trial and (self.awaited or (now < tally.spared_until and not call.repeatable)):
            return NOT_YET
        load = self.in_flight + 1
        if self.awaited and (silent := now - self.heard) > LATE:
            load += min(int(silent / LATE), HEAVIEST)
        if self.setbacks.streak:
            load += self.setbacks.weight(now)
        if self.beyond and (setbacks := self.beyond.get(call.method.name)) is not None:
            load += setbacks.weight(now)
        return load / self.weight

    def __repr__(self) -> str:
        return f"<{self.id} ready={self.ready} in_flight={self.in_flight}>"
