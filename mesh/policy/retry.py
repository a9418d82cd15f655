"""
Retry: try again, later and elsewhere, while it can still help (gRFC A6).

    attempt -- failed --> may it be repeated? --> is there budget? --> Sleep --> attempt elsewhere
                                | no                   | no
                                +------> the failure goes to the caller <------+

This is the only layer that repeats what a handler may have seen.  What may be repeated comes from
the contract (`call.repeatable`); anything else only when no handler saw it, which `resending`,
inside this layer, has then tried already.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from mesh.call import Call
from mesh.errors import (
    AttemptTimedOut,
    CallFailed,
    Code,
    MeshError,
    NoEndpoint,
    PolicyError,
    Processed,
    Rejected,
)
from mesh.flow import Inner, Layer, Sleep, Steps
from mesh.policy import checks
from mesh.policy.backoff import Backoff
from mesh.policy.budget import Throttle
from mesh.policy.pushback import Pushback, pushback
from mesh.telemetry.events import Emit, Retried, RetryRefused, unheard

IN_PROGRESS = "IDEMPOTENCY_IN_PROGRESS"
# How often a call may be told that its first self is still running, before it gives up.
PATIENCE = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """The rule: up to `attempts` in all, waiting twice as long each time, give or take a fifth."""

    # The first one included.
    attempts: int = 3
    # Seconds before the second attempt, and at most.
    base: float = 0.05
    cap: float = 1.0
    multiplier: float = 2.0
    # After which statuses; an attempt's own timeout, and RESOURCE_EXHAUSTED with a time to come
    # back, always count.
    codes: frozenset[Code] = frozenset({Code.UNAVAILABLE})
    # Of each success, so much of a retry is put back: retries add a tenth to the load at most.
    budget: float = 0.1
    # "values greater than 5 are treated as 5" - gRFC A6
    limit: int = 5

    def __post_init__(self) -> None:
        checks.whole("retry", 2, attempts=self.attempts, limit=self.limit)
        checks.above_zero("retry", base=self.base, cap=self.cap, multiplier=self.multiplier)
        checks.above_zero("retry", budget=self.budget)
        codes = frozenset(self.codes)
        if not codes or Code.OK in codes:
            raise PolicyError("retry.codes", self.codes, "names no status that can be retried")
        object.__setattr__(self, "codes", codes)
        object.__setattr__(self, "attempts", min(self.attempts, self.limit))

    @property
    def backoff(self) -> Backoff:
        return Backoff(base=self.base, cap=self.cap, multiplier=self.multiplier)


class Tries:
    """One call's memory of its attempts: what to do after each failure."""

    __slots__ = ("_backoff", "_patience", "_rng", "_rule", "_streak", "_throttle")

    def __init__(self, rule: Retry, rng: Random, throttle: Throttle) -> None:
        self._rule, self._rng, self._throttle = rule, rng, throttle
        self._backoff = rule.backoff
        self._streak = 0
        self._patience = PATIENCE

    def after(self, call: Call, failure: CallFailed | NoEndpoint) -> Retried | RetryRefused:
        """What to do: wait and try again, or leave it, and why."""
        asked = pushback(failure) if isinstance(failure, CallFailed) else None
        committed = call.committed or getattr(failure, "headers_seen", False)
        if (
            isinstance(failure, CallFailed)
            and not committed
            and self._in_progress(call, failure)
            and asked is not None
            and asked.delay is not None
        ):
            return self._again(call, failure, asked.delay, transparent=True)
        stop = asked is not None and asked.delay is None
        ill = self._retryable(call, failure, asked)
        if ill or stop:
            self._throttle.failure()
        why = ""
        if not ill or not (call.repeatable or failure.unseen):
            why = "not repeatable"
        elif not self._throttle.allows:
            why = "budget"
        elif committed:
            why = "committed"
        elif call.attempt >= self._rule.attempts:
            why = "attempts"
        elif stop:
            why = "pushback"
        if why:
            return RetryRefused(call.method.name, call.attempt, failure.code.name, why)
        if asked is not None and asked.delay is not None:
            # "the next retry attempt [...] will reset the backoff to initialBackoff" - gRFC A6
            self._streak = 0
            return self._again(call, failure, asked.delay)
        self._streak += 1
        return self._again(call, failure, self._backoff.delay(self._streak, self._rng))

    def _retryable(
        self, call: Call, failure: CallFailed | NoEndpoint, asked: Pushback | None
    ) -> bool:
        if isinstance(failure, AttemptTimedOut) or failure.unseen:
            return True
        if failure.code is Code.DEADLINE_EXCEEDED and call.deadline is not None:
            # The server knew the call's deadline, and it has passed: nobody waits for an answer.
            return False
        if failure.code is Code.RESOURCE_EXHAUSTED and asked is not None:
            return asked.delay is not None
        return failure.code in self._rule.codes

    def _in_progress(self, call: Call, failure: CallFailed) -> bool:
        """Whether the server works on this very call: not a failure, only not yet an answer."""
        if call.key is None or failure.code is not Code.ABORTED or failure.reason != IN_PROGRESS:
            return False
        self._patience -= 1
        return self._patience >= 0

    def _again(
        self, call: Call, failure: MeshError, delay: float, *, transparent: bool = False
    ) -> Retried:
        name, code = call.method.name, failure.code.name
        return Retried(name, call.attempt, code, delay, transparent, call.span_id)


def retrying(
    rule: Retry,
    rng: Random,
    *,
    throttle: Throttle | None = None,
    clock: Callable[[], float] | None = None,
    emit: Emit = unheard,
) -> Layer:
    """Repeat calls by `rule` within the target's `throttle`; `clock` tells what time is left."""
    tokens = throttle or Throttle()

    def layer(call: Call, inner: Inner) -> Steps:
        tries: Tries | None = None
        sent = False
        while True:
            try:
                reply = yield from inner(call)
            except (CallFailed, NoEndpoint) as caught:
                failure = caught
            except Rejected as refused:
                # What was refused was a repetition; of the attempts before, nothing is known.
                refused.processed = Processed.UNKNOWN if sent else refused.processed
                raise
            else:
                tokens.success(rule.budget)
                return reply
            tries = tries or Tries(rule, rng, tokens)
            verdict = tries.after(call, failure)
            sent = sent or not failure.unseen
            if sent:
                failure.processed = Processed.UNKNOWN
            if isinstance(verdict, Retried) and clock is not None:
                left = call.remaining(clock())
                if left is not None and verdict.delay >= left:
                    # What would come after the deadline is not waited for.
                    name, code = call.method.name, failure.code.name
                    verdict = RetryRefused(name, call.attempt, code, "deadline")
            emit(verdict)
            if isinstance(verdict, RetryRefused):
                raise failure
            call.retried_for = verdict.code
            if verdict.delay:
                try:
                    yield Sleep(verdict.delay)
                except Rejected as refused:
                    refused.processed = failure.processed
                    raise
            if not verdict.transparent:
                call.attempt += 1

    return layer
