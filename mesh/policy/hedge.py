"""
Hedging: ask a second server before the first has answered, and take whoever is first (gRFC A6).

    attempt 1  |-------------------------x cancelled
    attempt 2          |-----------> OK: the reply
               ^delay ^

It trades load for the slowest hundredth of calls, so it pays from the same budget as retries, and
only calls that the contract lets run twice are hedged.  A call that may not, or that streams, goes
out once, and again only when no server saw it.  Losers are closed: no breaker counts them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mesh.call import Call, Kind
from mesh.errors import AttemptTimedOut, CallFailed, Code, PolicyError, Processed, Rejected
from mesh.flow import Branch, Inner, Layer, Race, Steps
from mesh.policy import checks
from mesh.policy.budget import Throttle
from mesh.policy.pushback import pushback
from mesh.policy.retry import IN_PROGRESS
from mesh.telemetry.events import Emit, Hedged, unheard


@dataclass(frozen=True, kw_only=True, slots=True)
class Hedge:
    """The rule: up to `attempts` in all, one more after each `delay` without an answer."""

    # The first one included.
    attempts: int = 2
    # Seconds; about the method's 95th percentile.  0 sends all at once.
    delay: float = 0.1
    # Statuses after which the others may still answer; any other ends the call.
    codes: frozenset[Code] = frozenset({Code.UNAVAILABLE})
    # Of each success, so much of a hedge is put back into the target's budget.
    budget: float = 0.1
    # "values greater than 5 are treated as 5" - gRFC A6
    limit: int = 5

    def __post_init__(self) -> None:
        checks.whole("hedge", 2, attempts=self.attempts, limit=self.limit)
        checks.not_negative("hedge", delay=self.delay)
        checks.above_zero("hedge", budget=self.budget)
        codes = frozenset(self.codes)
        if Code.OK in codes:
            raise PolicyError("hedge.codes", self.codes, "names OK, which ends every call")
        object.__setattr__(self, "codes", codes)
        object.__setattr__(self, "attempts", min(self.attempts, self.limit))


class Hedges:
    """One call's memory of its attempts: how many were sent and when the next is due."""

    __slots__ = ("_failed", "_rule", "_throttle", "due", "sent", "stopped", "together")

    def __init__(self, rule: Hedge, throttle: Throttle, now: float, *, together: bool) -> None:
        self._rule, self._throttle = rule, throttle
        # Whether attempts may run side by side, or only after one that no server saw.
        self.together = together
        self.sent = 0
        self.due = now
        self.stopped = False
        self._failed = False

    @property
    def may_send(self) -> bool:
        """Whether another attempt is to be sent, now or when it is due."""
        if self.sent == 0:
            return True
        # "if token_count is less than or equal to the threshold [...] only the first hedged RPC
        # will be sent" - gRFC A6
        if self.stopped or self.sent >= self._rule.attempts or not self._throttle.allows:
            return False
        return self.together or self._failed

    def send(self, now: float) -> int:
        """Count an attempt as sent; its number."""
        self.sent += 1
        self.due = now + self._rule.delay
        self._failed = False
        return self.sent

    def failed(self, call: Call, failure: CallFailed, now: float) -> bool:
        """Take in a failed attempt; False when it ends the call."""
        asked = pushback(failure)
        unseen = failure.unseen
        running = failure.code is Code.ABORTED and failure.reason == IN_PROGRESS and bool(call.key)
        fatal = not (
            unseen
            or running
            or failure.code in self._rule.codes
            or isinstance(failure, AttemptTimedOut)
        )
        stop = asked is not None and asked.delay is None
        if stop or not (fatal or running):
            self._throttle.failure()
        if fatal or not (self.together or unseen):
            return False
        self._failed = True
        self.stopped = self.stopped or stop
        # "If a non-fatal status code is received, then the next hedged request in line is sent
        # immediately"; with pushback, "n milliseconds later" - gRFC A6
        self.due = now + (asked.delay if asked is not None and asked.delay is not None else 0.0)
        return True


def hedging(
    rule: Hedge,
    clock: Callable[[], float],
    *,
    throttle: Throttle | None = None,
    emit: Emit = unheard,
) -> Layer:
    """Send attempts side by side by `rule`, within the target's `throttle`."""
    tokens = throttle or Throttle()

    def layer(call: Call, inner: Inner) -> Steps:
        together = call.repeatable and call.method.kind is Kind.UNARY_UNARY
        hedges = Hedges(rule, tokens, clock(), together=together)
        running: dict[Branch, Call] = {}
        sent_before = False
        last: CallFailed | Rejected | None = None
        try:
            while True:
                now = clock()
                while hedges.may_send and now >= hedges.due:
                    fork = call.fork()
                    fork.attempt = hedges.send(now)
                    running[Branch(inner(fork))] = fork
                    if fork.attempt > 1:
                        emit(Hedged(call.method.name, fork.attempt, call.span_id))
                if last is not None and not running and not hedges.may_send:
                    raise last
                wait = max(0.0, hedges.due - now) if hedges.may_send else None
                done = yield Race(tuple(running), wait)
                if done is None:
                    continue
                fork = running.pop(done)
                call.attempt, call.endpoint = hedges.sent, fork.endpoint
                call.committed = call.committed or fork.committed
                try:
                    reply = done.result()
                except CallFailed as failure:
                    goes_on = hedges.failed(call, failure, clock()) and not call.committed
                    sent_before = sent_before or not failure.unseen
                    if sent_before or running:
                        failure.processed = Processed.UNKNOWN
                    if not goes_on:
                        raise
                    last = failure
                except Rejected as refused:
                    # Nobody else to ask; whoever was asked may still answer.
                    hedges.stopped = True
                    if not running:
                        raise last or refused from None
                    last = last or refused
                else:
                    tokens.success(rule.budget)
                    return reply
        finally:
            for branch in running:
                branch.close()

    return layer
