"""
Ring hash: the same key goes to the same endpoint, as long as that is there (gRFC A42).

            b     hash(key)
         .----.--o-->             every member has places on the ring by its weight; a key goes to
       c(      )a                 the first place after its hash.  When a member comes or goes most
         `----'                   keys stay where they were.

A shunned member is passed over for the next on the ring, so a retry goes elsewhere and a key whose
server is ill has a second home that is always the same.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import ceil
from random import Random

from mesh.balance.hashing import hash64
from mesh.balance.member import Member
from mesh.balance.picker import NOBODY, Picker
from mesh.call import Call
from mesh.errors import PolicyError
from mesh.policy import checks


@dataclass(frozen=True, kw_only=True, slots=True)
class RingHash:
    """The rule: calls with the same value under metadata `header` go to the same endpoint."""

    header: str
    # Places on the ring: enough for even shares; "1024" and "capped at 4096" - gRFC A42
    minimum_size: int = 1024
    maximum_size: int = 4096

    def __post_init__(self) -> None:
        if not self.header or self.header != self.header.lower():
            raise PolicyError("ring_hash.header", self.header, "is not a lowercase metadata key")
        checks.whole("ring_hash", 1, 4096, maximum_size=self.maximum_size)
        checks.whole("ring_hash", 1, self.maximum_size, minimum_size=self.minimum_size)

    def picker(self, members: Sequence[Member], rng: Random) -> Picker:
        return Ring(self, members, rng)


class Ring:
    """The places of all members, by hash."""

    __slots__ = ("_count", "_hashes", "_header", "_owners", "_rng")

    def __init__(self, rule: RingHash, members: Sequence[Member], rng: Random) -> None:
        self._header, self._rng, self._count = rule.header, rng, len(members)
        total = sum(member.weight for member in members)
        least = min(member.weight for member in members) / total
        # "scale the ring so that the smallest weight has a whole number of places" - gRFC A42
        size = min(ceil(least * rule.minimum_size) / least, rule.maximum_size)
        places: list[tuple[int, Member]] = []
        for member in members:
            share = max(1, round(size * member.weight / total))
            address = member.endpoint.address
            places += [(hash64(f"{address}_{place}"), member) for place in range(share)]
        places.sort(key=lambda place: place[0])
        self._hashes = [place[0] for place in places]
        self._owners = [place[1] for place in places]

    def __len__(self) -> int:
        """How many places there are."""
        return len(self._hashes)

    def pick(self, call: Call, now: float, shunned: Collection[str] = NOBODY) -> Member | None:
        hashes, owners = self._hashes, self._owners
        start = bisect_left(hashes, self._hash(call))
        seen: set[str] = set()
        for step in range(len(owners)):
            owner = owners[(start + step) % len(owners)]
            if owner.id not in shunned:
                return owner
            seen.add(owner.id)
            if len(seen) == self._count:
                break
        return None

    def _hash(self, call: Call) -> int:
        values = [value for name, value in call.metadata if name == self._header]
        if not values:
            # "If no header is found, a random hash is used" - gRFC A42
            return self._rng.getrandbits(64)
        return hash64(b",".join(v if isinstance(v, bytes) else v.encode() for v in values))
