"""
When to turn back: too many errors, answers that differ, or slowness of the new side.

    judge(rule, total) -> ""                                   go on
                       -> "12 of 40 calls failed: 30 % is more than 5 %"

A rate is looked at once the window holds `minimum_calls` of what it is a rate of.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.strangler.evidence import Total
from mesh.errors import PolicyError
from mesh.policy import checks


@dataclass(frozen=True, kw_only=True, slots=True)
class Abort:
    """The limits of the new side; a rate that is None is not looked at."""

    # s: how far back is looked.
    window: float = 60.0
    # With fewer calls in the window, no rate says anything.
    minimum_calls: int = 20
    # Of the calls, answered 5xx or not at all.
    error_rate: float | None = 0.05
    # Of the compared answers.
    mismatch_rate: float | None = 0.05
    # s: an answer later than this is slow; None: none is.
    slow: float | None = None
    # Of the calls.
    slow_rate: float | None = None
    # Only to the step before, and not to 0 %.
    back: bool = False

    def __post_init__(self) -> None:
        checks.above_zero("abort", window=self.window, slow=self.slow)
        checks.whole("abort", 1, minimum_calls=self.minimum_calls)
        for name in ("error_rate", "mismatch_rate", "slow_rate"):
            checks.between("abort", 0, 1, **{name: getattr(self, name)})
        if (self.slow is None) is not (self.slow_rate is None):
            raise PolicyError("abort.slow", self.slow, "and slow_rate are given together or not")


def judge(rule: Abort, total: Total) -> str:
    """Why to turn back; "" when there is no reason to."""
    for many, of, limit, what in (
        (total.failed, total.calls, rule.error_rate, "calls failed"),
        (total.slow, total.calls, rule.slow_rate, f"calls took over {rule.slow or 0:g} s"),
        (total.different, total.compared, rule.mismatch_rate, "answers differed"),
    ):
        if limit is not None and of >= rule.minimum_calls and many > limit * of:
            return f"{many} of {of} {what}: {many / of:.1%} is more than {limit:.1%}"
    return ""


def enough(rule: Abort | None, total: Total) -> bool:
    """Whether so much was seen that the next step may be taken."""
    return rule is None or total.calls >= rule.minimum_calls
