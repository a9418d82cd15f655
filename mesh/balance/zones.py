"""
Zones: stay in the nearest zone while it serves, fail over in order, come back at once (gRFC A56).

    near: ready?  --yes-->  near
      | connecting, for less than `failover_seconds`: wait for it
      v failed, or too slow
    next zone: ready? ...        and near again as soon as one of its endpoints is ready

A zone is an endpoint's meta "zone"; those the rule does not name come last, together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mesh.balance.member import Member
from mesh.errors import PolicyError
from mesh.policy import checks


@dataclass(frozen=True, kw_only=True, slots=True)
class Zones:
    """The rule: zone names, the nearest first."""

    order: tuple[str, ...]
    # "The failover timer is set to 10 seconds" - gRFC A56
    failover_seconds: float = 10.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", tuple(self.order))
        if not self.order or len(set(self.order)) < len(self.order):
            raise PolicyError("zones.order", self.order, "is not a list of different zones")
        checks.not_negative("zones", failover_seconds=self.failover_seconds)

    def rank(self, member: Member) -> int:
        """The priority of a member's zone; 0 is the highest."""
        zone = member.endpoint.zone
        return self.order.index(zone) if zone in self.order else len(self.order)


class Failover:
    """The memory: since when each zone has been connecting."""

    __slots__ = ("_connecting", "due", "rule")

    def __init__(self, rule: Zones) -> None:
        self.rule = rule
        self._connecting: dict[int, float] = {}
        # When the present choice has to be looked at again, though nothing changes.
        self.due = float("inf")

    def choose(self, members: Sequence[Member], well: Collection[str], now: float) -> list[Member]:
        """
        All members of the zone to use, ready or not; `well` are those ready and healthy.

        Where no zone is well, it is everyone.
        """
        self.due = float("inf")
        groups: dict[int, list[Member]] = {}
        for member in members:
            groups.setdefault(self.rule.rank(member), []).append(member)
        connecting = {}
        chosen: list[Member] | None = None
        for rank in sorted(groups):
            group = groups[rank]
            if any(member.id in well for member in group):
                chosen = chosen if chosen is not None else group
                # "When a child becomes READY, its failover timer is cancelled" - gRFC A56
                continue
            if any(member.ready is None for member in group):
                since = connecting[rank] = self._connecting.get(rank, now)
                ends = since + self.rule.failover_seconds
                if chosen is None and now < ends:
                    # "If the child is CONNECTING and its failover timer is pending, use it."
                    chosen, self.due = group, ends
        self._connecting = connecting
        return chosen if chosen is not None else list(members)
