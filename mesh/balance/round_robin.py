"""
Round robin: one after the other, from a random start; by weight where weights differ.

With weights 5, 1, 1 the turns are a a b a c a a: smooth, never five in a row and then the others.
Every turn each candidate gains its weight, the richest is picked and pays for all.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random

from mesh.balance.member import Member
from mesh.balance.picker import NOBODY, Picker
from mesh.call import Call


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundRobin:
    """The rule: everyone in turn; `weighted` honours the weights that the registry tells."""

    weighted: bool = True

    def picker(self, members: Sequence[Member], rng: Random) -> Picker:
        weights = {member.weight for member in members}
        if self.weighted and len(weights) > 1:
            return Smooth(members, rng)
        return InTurn(members, rng)


class InTurn:
    """Everyone as often as everyone else."""

    __slots__ = ("_members", "_next")

    def __init__(self, members: Sequence[Member], rng: Random) -> None:
        self._members = tuple(members)
        # A random start, or all clients would begin with the same server.
        self._next = int(rng.random() * len(members))

    def pick(self, call: Call, now: float, shunned: Collection[str] = NOBODY) -> Member | None:
        members = self._members
        for _ in members:
            member = members[self._next % len(members)]
            self._next = (self._next + 1) % len(members)
            if member.id not in shunned:
                return member
        return None


class Smooth:
    """Everyone as often as its weight says, spread evenly."""

    __slots__ = ("_credit", "_members")

    def __init__(self, members: Sequence[Member], rng: Random) -> None:
        self._members = tuple(members)
        self._credit = {m.id: rng.random() * m.weight for m in members}

    def pick(self, call: Call, now: float, shunned: Collection[str] = NOBODY) -> Member | None:
        credit, total, best = self._credit, 0.0, None
        for member in self._members:
            if member.id in shunned:
                continue
            weight = member.weight
            credit[member.id] += weight
            total += weight
            if best is None or credit[member.id] > credit[best.id]:
                best = member
        if best is not None:
            credit[best.id] -= total
        return best
