"""
Least request: of two endpoints drawn by lot, the one with fewer calls in flight.

    draw 2 of n  -->  smaller (in_flight + 1 + streak + silence) / weight  -->  picked
                                                                   ties: the first drawn

Two choices are enough to keep load even, and unlike "the least of all" they do not send every
client to the same newcomer.  The two are distinct: with replacement, a hung endpoint would be
compared with itself.  With `latency` the load is multiplied by how long it takes to answer.

A streak of failures weighs as much as calls in flight, for some seconds, and so does silence while
calls wait for an answer.  Who refuses at once is never busy, and who hangs has few calls and is not
busy after each timeout: without it either would look like the best.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from random import Random

from mesh.balance.member import Member
from mesh.balance.picker import NOBODY, Picker
from mesh.call import Call
from mesh.policy import checks


@dataclass(frozen=True, kw_only=True, slots=True)
class LeastRequest:
    """The rule: the least loaded among `choices` endpoints drawn at random."""

    # "choice_count [...] values greater than 10 [...] are clamped" - gRFC A48: 2 to 10.
    choices: int = 2
    # Whether load also counts how slowly an endpoint answers, as a moving average.
    latency: bool = False

    def __post_init__(self) -> None:
        checks.whole("least_request", 2, 10, choices=self.choices)

    def picker(self, members: Sequence[Member], rng: Random) -> Picker:
        return Choices(members, rng, self.choices, _slowest if self.latency else Member.load)


class Choices:
    """Draws members by lot and compares their loads."""

    __slots__ = ("_choices", "_load", "_members", "_pairs", "_rng")

    def __init__(
        self,
        members: Sequence[Member],
        rng: Random,
        choices: int,
        load: Callable[[Member, Call, float], float],
    ) -> None:
        self._members = tuple(members)
        # How many ordered pairs of two distinct members there are.
        self._pairs = len(members) * (len(members) - 1)
        self._rng = rng
        self._choices = choices
        self._load = load

    def pick(self, call: Call, now: float, shunned: Collection[str] = NOBODY) -> Member | None:
        members: Sequence[Member] = self._members
        pairs = self._pairs
        if shunned:
            members = [member for member in members if member.id not in shunned]
            pairs = len(members) * (len(members) - 1)
        if not pairs:
            return members[0] if members else None
        if self._choices > 2:
            drawn = self._rng.sample(members, min(self._choices, len(members)))
            return min(drawn, key=lambda member: self._load(member, call, now))
        # One throw of the dice for both: a pair's number is first x (count - 1) + second.
        others = len(members) - 1
        pair = int(self._rng.random() * pairs)
        first, second = pair // others, pair % others
        one, other = members[first], members[second + (second >= first)]
        return other if self._load(other, call, now) < self._load(one, call, now) else one


def _slowest(member: Member, call: Call, now: float) -> float:
    # Nobody knows yet how fast a newcomer is: as fast as can be, until its first answer.
    return (member.latency.at(now) + 1e-6) * member.load(call, now)
