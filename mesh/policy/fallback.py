"""
Fallback: a value, or the last good answer, in place of an error; never without saying so.

    inner call --> reply ----------------------------------> kept, if `last_good`
              \\--> UNAVAILABLE, DEADLINE_EXCEEDED, ... --> fallback, noted "mesh-fallback"

It sits above everything that refuses or fails, below the deadline.  Errors that say something of
the request (NOT_FOUND, INVALID_ARGUMENT) are answers and pass.  A last good answer is given only
for methods without side effects, to the very same request under the same `vary` metadata: nobody
is answered with what was meant for another.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from mesh.call import Call, Idempotency, Kind
from mesh.errors import CallFailed, Code, MeshError, PolicyError, Rejected
from mesh.flow import Inner, Layer, Steps
from mesh.policy import checks
from mesh.telemetry.events import Emit, FellBack, unheard

# The metadata key that marks such a reply; its value is where the reply came from.
KEY = "mesh-fallback"
VALUE, LAST_GOOD = "value", "last-good"
NOTHING = object()


@dataclass(frozen=True, kw_only=True, slots=True)
class Fallback:
    """The rule: what to answer instead; a `value` is used when there is no last good answer."""

    # A reply, or a function from request to reply; None is no value.
    value: Any = None
    # Whether good answers are kept, for how many seconds, and how many of them.
    last_good: bool = False
    seconds: float = 300.0
    entries: int = 1000
    # The metadata keys whose values an answer may depend on.
    vary: tuple[str, ...] = ("authorization",)
    codes: frozenset[Code] = frozenset(
        {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.RESOURCE_EXHAUSTED}
    )

    def __post_init__(self) -> None:
        checks.above_zero("fallback", seconds=self.seconds)
        checks.whole("fallback", 1, entries=self.entries)
        if self.value is None and not self.last_good:
            raise PolicyError("fallback.value", None, "leaves nothing to answer with")
        object.__setattr__(self, "codes", frozenset(self.codes))


class Larder:
    """The memory: good answers by method and request, the oldest used thrown out first."""

    __slots__ = ("_kept", "rule")

    def __init__(self, rule: Fallback) -> None:
        self.rule = rule
        self._kept: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()

    def keep(self, call: Call, reply: Any, now: float) -> None:
        """Remember a good answer, if the contract says that asking changes nothing."""
        if self.rule.last_good and _keepable(call):
            key = self._key(call)
            self._kept[key] = (now, reply)
            self._kept.move_to_end(key)
            if len(self._kept) > self.rule.entries:
                self._kept.popitem(last=False)

    def find(self, call: Call, now: float) -> Any:
        """The last good answer to this request, or NOTHING."""
        if not self.rule.last_good or not _keepable(call):
            return NOTHING
        since, reply = self._kept.get(self._key(call), (0.0, NOTHING))
        return reply if now - since <= self.rule.seconds else NOTHING

    def _key(self, call: Call) -> Hashable:
        serialize = getattr(call.request, "SerializeToString", None)
        request = call.request if serialize is None else serialize(deterministic=True)
        varies = tuple(pair for pair in call.metadata if pair[0] in self.rule.vary)
        return call.method.name, request, varies


def falling_back(larder: Larder, clock: Callable[[], float], *, emit: Emit = unheard) -> Layer:
    """Answer from the larder, or with the rule's value, what failed for want of a server."""
    rule = larder.rule

    def layer(call: Call, inner: Inner) -> Steps:
        if call.method.kind is not Kind.UNARY_UNARY:
            return (yield from inner(call))
        try:
            reply = yield from inner(call)
        except (CallFailed, Rejected) as failure:
            if failure.code not in rule.codes:
                raise
            return _instead(failure, call)
        larder.keep(call, reply, clock())
        return reply

    def _instead(failure: MeshError, call: Call) -> Any:
        source, reply = LAST_GOOD, larder.find(call, clock())
        if reply is NOTHING:
            if rule.value is None:
                raise failure
            source = VALUE
            reply = rule.value(call.request) if callable(rule.value) else rule.value
        call.notes.append((KEY, source))
        emit(FellBack(call.method.name, source, failure.code.name))
        return reply

    return layer


def _keepable(call: Call) -> bool:
    return call.method.idempotency is Idempotency.NO_SIDE_EFFECTS
