"""
How far a route has moved, and how it gets further: a plan of steps, and where one stands in it.

    FOLLOWING --dwelt, enough seen--> FOLLOWING at the next step
        |  ^                                |
        |  +------------ resume ----+       | abort
        | hold                      |       v
        +-----------> HELD ---------+--- ABORTED      hold and abort from everywhere

    steps  1 % for 10 min, 10 % for 1 h, 100 %        a fixed percentage is a plan of one step

Everything here takes `now`, seconds since 1970, so that a ramp goes on where it was after a
restart.  Two rules for who changes this: a standing says how far it is by its percentage alone,
never by a step's number, so that an edited plan goes on from where the traffic is; and every
transition raises `revision`, by which processes agree on which of two standings is newer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise

from mesh.errors import PolicyError
from mesh.policy import checks


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """So many percent for so many seconds; the last step's dwell is not looked at."""

    percent: float
    dwell: float = 0.0

    def __post_init__(self) -> None:
        checks.between("step", 0, 100, percent=self.percent)
        checks.not_negative("step", dwell=self.dwell)
        if abs(self.percent * 100 - round(self.percent * 100)) > 1e-6:
            raise PolicyError("step.percent", self.percent, "is finer than a hundredth")


Plan = Sequence[Step]


def rising(plan: Plan, path: str = "plan") -> Plan:
    """`plan` itself, when each of its steps is further than the one before."""
    for place, (one, next_) in enumerate(pairwise(plan), 1):
        if next_.percent <= one.percent:
            why = f"is not above the {one.percent:g} before it"
            raise PolicyError(f"{path}[{place}].percent", next_.percent, why)
    return plan


class Mode(Enum):
    """Who says how far it is."""

    FOLLOWING = "following"
    HELD = "held"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a route is: `percent`, since when (seconds since 1970), by whom and why."""

    percent: float
    since: float
    mode: Mode = Mode.FOLLOWING
    reason: str = ""
    # What it was before an abort.
    before: float = 0.0
    revision: int = 0

    def __post_init__(self) -> None:
        checks.between("standing", 0, 100, percent=self.percent)


def begin(plan: Plan, now: float) -> Standing:
    """Where a plan begins; without one nothing moves."""
    return Standing(plan[0].percent if plan else 0.0, now)


def follow(plan: Plan, standing: Standing, now: float, *, enough: bool = True) -> Standing:
    """
    One step further when its time has come, or back onto a plan that was edited.

    Not `enough` says that too little was seen at this step to believe in the next.
    """
    if standing.mode is not Mode.FOLLOWING:
        return standing
    at = _step(plan, standing.percent)
    step = plan[at] if plan else Step(percent=0.0)
    if step.percent != standing.percent:
        return _next(standing, percent=step.percent, since=now)
    if at + 1 < len(plan) and enough and now - standing.since >= step.dwell:
        return _next(standing, percent=plan[at + 1].percent, since=now)
    return standing


def hold(standing: Standing, percent: float, now: float, reason: str = "") -> Standing:
    """Stay at `percent` until told otherwise, whatever the plan says."""
    Step(percent=percent)
    return _next(standing, percent=percent, since=now, mode=Mode.HELD, reason=reason, before=0.0)


def abort(plan: Plan, standing: Standing, now: float, reason: str, *, back: bool) -> Standing:
    """Move everybody back, or with `back` to the step before; stays so until resumed."""
    if standing.mode is Mode.ABORTED:
        return standing
    lower = [step.percent for step in plan if step.percent < standing.percent]
    return _next(
        standing,
        percent=lower[-1] if back and lower else 0.0,
        since=now,
        mode=Mode.ABORTED,
        reason=reason,
        before=standing.percent,
    )


def resume(plan: Plan, standing: Standing, now: float) -> Standing:
    """Follow the plan again: from the step where the traffic is, dwelling there anew."""
    percent = plan[_step(plan, standing.percent)].percent if plan else 0.0
    return _next(standing, percent=percent, since=now, mode=Mode.FOLLOWING, reason="", before=0.0)


def _step(plan: Plan, percent: float) -> int:
    """The last step that is no further than `percent`, or the first."""
    return max(0, sum(step.percent <= percent for step in plan) - 1)


def _next(standing: Standing, **changes: object) -> Standing:
    return replace(standing, revision=standing.revision + 1, **changes)  # type: ignore[arg-type]
