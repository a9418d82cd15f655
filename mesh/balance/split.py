"""
Split: part of the calls go to another version, the same callers always (a canary).

    header names a version? --> that version
    else hash(value of `by`) or a die  -->  0 .. 10000  -->  v2 below 500, the rest to everyone else

A version is an endpoint's tag.  Endpoints with none of the tags named are the base, which gets what
is left.  A version of which nobody is there gets nothing: its calls go to the base.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType

from mesh.balance.hashing import hash64
from mesh.balance.member import Member
from mesh.balance.picker import NOBODY, Picker
from mesh.call import Call
from mesh.errors import PolicyError
from mesh.policy import checks

BUCKETS = 10_000


@dataclass(frozen=True, kw_only=True)
class Split:
    """The rule: how much of the calls each tag gets; parts of 1."""

    shares: Mapping[str, float] = field(default_factory=dict, hash=False)
    # The metadata key that makes it sticky: a user never flaps between versions.
    by: str | None = None
    # The metadata key whose value, if it is one of the tags, decides.
    header: str | None = None

    def __post_init__(self) -> None:
        checks.between("split", 0, 1, **dict(self.shares))
        if sum(self.shares.values()) > 1 + 1e-9:
            raise PolicyError("split.shares", dict(self.shares), "is more than all calls")
        if not self.shares:
            raise PolicyError("split.shares", {}, "names no version")
        object.__setattr__(self, "shares", MappingProxyType(dict(self.shares)))

    def picker(
        self,
        members: Sequence[Member],
        rng: Random,
        inner: Callable[[Sequence[Member]], Picker],
    ) -> Picker:
        """A picker over a picker for each version that is there."""
        groups: dict[str, list[Member]] = {}
        for member in members:
            tags = member.endpoint.tags
            version = next((tag for tag in self.shares if tag in tags), "")
            groups.setdefault(version, []).append(member)
        return Versions(self, {name: inner(group) for name, group in groups.items()}, rng)


class Versions:
    """One picker a version; "" is the base."""

    __slots__ = ("_pickers", "_rng", "_rule")

    def __init__(self, rule: Split, pickers: Mapping[str, Picker], rng: Random) -> None:
        self._rule, self._pickers, self._rng = rule, pickers, rng

    def pick(self, call: Call, now: float, shunned: Collection[str] = NOBODY) -> Member | None:
        version = self._version(call)
        # The version meant, then the base, then anybody: a canary is no reason to fail a call.
        for name in dict.fromkeys((version, "", *self._pickers)):
            picker = self._pickers.get(name)
            member = picker.pick(call, now, shunned) if picker is not None else None
            if member is not None:
                return member
        return None

    def _version(self, call: Call) -> str:
        rule = self._rule
        asked = _value(call, rule.header)
        if isinstance(asked, str) and asked in rule.shares:
            return asked
        key = _value(call, rule.by)
        bucket = hash64(key) % BUCKETS if key is not None else int(self._rng.random() * BUCKETS)
        for version, share in rule.shares.items():
            bucket -= round(share * BUCKETS)
            if bucket < 0:
                return version
        return ""


def _value(call: Call, key: str | None) -> str | bytes | None:
    if key is None:
        return None
    return next((value for name, value in call.metadata if name == key), None)
