"""
A picker chooses one of the members it was made from; a balance rule makes pickers.

    snapshot, readiness, ejections --> members --> rule.picker(members, rng) --> one assignment

Pickers are rebuilt, never changed: "Pick should not block ... Balancer is expected to generate a
new picker from its snapshot every time its internal state has changed" - grpc-go.  What changes by
the call (who was tried, whose circuit is open) comes as `shunned`, endpoint ids to pass over.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random
from typing import Protocol

from mesh.balance.member import Member
from mesh.call import Call

NOBODY: frozenset[str] = frozenset()


class Picker(Protocol):
    """One choice among the members of one moment."""

    def pick(self, call: Call, now: float, shunned: Collection[str] = NOBODY) -> Member | None:
        """A member that is not shunned; None when there is none."""


class Balance(Protocol):
    """The rule that a user writes: RoundRobin(), LeastRequest(), RingHash(...)."""

    def picker(self, members: Sequence[Member], rng: Random) -> Picker: ...
