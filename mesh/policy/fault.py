"""
Fault injection: delay and abort calls on purpose, by independent dice (gRFC A33).

    die 1 --> Sleep(delay) --+--> die 2 --> abort with a status, or the wire

It sits innermost, so that everything above meets the fault as it would meet a real one.  Headers
can ask for faults only where the rule says so, and never for more of them than the rule allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from mesh.call import Call
from mesh.errors import CallFailed, Code, PolicyError
from mesh.flow import Inner, Layer, Sleep, Steps
from mesh.policy import checks
from mesh.telemetry.events import Emit, FaultInjected, unheard

MILLION = 1_000_000
DELAY = "x-envoy-fault-delay-request"
DELAY_PERCENT = "x-envoy-fault-delay-request-percentage"
ABORT_GRPC = "x-envoy-fault-abort-grpc-request"
ABORT_HTTP = "x-envoy-fault-abort-request"
ABORT_PERCENT = "x-envoy-fault-abort-request-percentage"
# An HTTP status as gRPC reads it; "HTTP 200 is UNKNOWN", as is every other one.
FROM_HTTP = {
    400: Code.INTERNAL,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.UNIMPLEMENTED,
    429: Code.UNAVAILABLE,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.UNAVAILABLE,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Delay:
    """Let `per_million` of a million calls wait `seconds`; by header, what the header says."""

    seconds: float = 0.0
    per_million: int = MILLION
    by_header: bool = False

    def __post_init__(self) -> None:
        checks.not_negative("fault.delay", seconds=self.seconds)
        checks.whole("fault.delay", 0, MILLION, per_million=self.per_million)


@dataclass(frozen=True, kw_only=True, slots=True)
class Abort:
    """Let `per_million` of a million calls fail with `code`; by header, as the header says."""

    code: Code = Code.UNAVAILABLE
    per_million: int = MILLION
    by_header: bool = False

    def __post_init__(self) -> None:
        checks.whole("fault.abort", 0, MILLION, per_million=self.per_million)
        checks.one_of("fault.abort", [code for code in Code if code], code=self.code)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """The rule; faults in force at one time are at most `max_active`, None is any number."""

    delay: Delay | None = None
    abort: Abort | None = None
    max_active: int | None = None

    def __post_init__(self) -> None:
        checks.whole("fault", 0, max_active=self.max_active)
        if self.delay is None and self.abort is None:
            raise PolicyError("fault", None, "names neither a delay nor an abort")


class Active:
    """The memory: how many calls are held up by a fault now; one for all of a target's methods."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


def faulting(
    rule: Fault, rng: Random, *, active: Active | None = None, emit: Emit = unheard
) -> Layer:
    """Throw both dice for each attempt, then delay, then abort."""
    held = active or Active()

    def layer(call: Call, inner: Inner) -> Steps:
        # "Each [...] is evaluated independently" - gRFC A33: both dice fall before anything waits.
        delay = _delay(rule.delay, call, rng)
        abort = _abort(rule.abort, call, rng)
        if rule.max_active is not None and held.count >= rule.max_active:
            delay = abort = None
        if delay is None and abort is None:
            return (yield from inner(call))
        held.count += 1
        try:
            if delay is not None:
                emit(FaultInjected(call.method.name, "delay", delay))
                yield Sleep(delay)
            if abort is not None:
                emit(FaultInjected(call.method.name, "abort", 0.0, abort.name))
                raise CallFailed(abort, "fault injected")
        finally:
            held.count -= 1
        return (yield from inner(call))

    return layer


def _delay(rule: Delay | None, call: Call, rng: Random) -> float | None:
    if rule is None:
        return None
    seconds, odds = rule.seconds, rule.per_million
    if rule.by_header:
        asked = _number(call, DELAY)
        if asked is None:
            return None
        seconds, odds = asked / 1000, _capped(rule.per_million, call, DELAY_PERCENT)
    return seconds if seconds > 0 and _falls(odds, rng) else None


def _abort(rule: Abort | None, call: Call, rng: Random) -> Code | None:
    if rule is None:
        return None
    code, odds = rule.code, rule.per_million
    if rule.by_header:
        asked, http = _number(call, ABORT_GRPC), _number(call, ABORT_HTTP)
        if asked is not None and 0 < asked <= max(Code):
            code = Code(asked)
        elif http is not None and 200 <= http < 600:
            code = FROM_HTTP.get(http, Code.UNKNOWN)
        else:
            return None
        odds = _capped(rule.per_million, call, ABORT_PERCENT)
    return code if _falls(odds, rng) else None


def _capped(per_million: int, call: Call, header: str) -> int:
    """What the header asks for in percent, never more than the rule's own odds."""
    percent = _number(call, header)
    return per_million if percent is None else min(per_million, percent * MILLION // 100)


def _number(call: Call, header: str) -> int | None:
    """The header as a whole number; one that is none is as good as none."""
    for name, value in call.metadata:
        if name == header:
            text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
            return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
    return None


def _falls(per_million: int, rng: Random) -> bool:
    return rng.random() * MILLION < per_million
