"""The ramp as a table: standing and event -> standing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.strangler import plan
from gateway.strangler.plan import Mode, Standing, Step
from mesh.errors import PolicyError

RAMP = (Step(percent=1, dwell=600), Step(percent=10, dwell=3600), Step(percent=100))
FIXED = (Step(percent=25),)
AT_1 = Standing(1, since=1000)


def test_a_plan_begins_at_its_first_step_and_without_one_nothing_moves() -> None:
    assert plan.begin(RAMP, 5) == Standing(1, since=5)
    assert plan.begin((), 5) == Standing(0, since=5)


def test_a_ramp_is_climbed_step_by_step_and_stays_at_its_end() -> None:
    standing, seen = plan.begin(RAMP, 0), []
    for now in range(0, 8000, 100):
        after = plan.follow(RAMP, standing, now)
        if after is not standing:
            seen.append((now, after.percent, after.revision))
        standing = after

    assert seen == [(600, 10, 1), (4200, 100, 2)]


def test_a_long_sleep_climbs_one_step_at_a_time() -> None:
    """A gateway that was down for a week has seen nothing of the step it was at."""
    after = plan.follow(RAMP, AT_1, 1e6)

    assert (after.percent, after.since) == (10, 1e6)
    assert plan.follow(RAMP, after, 1e6 + 1) is after


def test_a_step_of_which_too_little_was_seen_is_not_left() -> None:
    assert plan.follow(RAMP, AT_1, 1e6, enough=False) is AT_1


@pytest.mark.parametrize(
    ("steps", "percent", "expected"),
    [
        (FIXED, 10, 25),  # a fixed percentage was edited
        (RAMP, 40, 10),  # a ramp took the place of one: from the step where the traffic is
        (RAMP, 0.5, 1),
        ((Step(percent=1, dwell=1e9), Step(percent=40)), 40, 40),
        ((), 40, 0),
    ],
)
def test_an_edited_plan_goes_on_from_where_the_traffic_is(
    steps: plan.Plan, percent: float, expected: float
) -> None:
    assert plan.follow(steps, Standing(percent, since=0), 1).percent == expected


def test_what_is_held_or_aborted_stays_until_it_is_resumed() -> None:
    held = plan.hold(AT_1, 33.33, 1100, "a look")
    aborted = plan.abort(RAMP, held, 1200, "errors", back=False)
    assert [plan.follow(RAMP, each, 1e9) for each in (held, aborted)] == [held, aborted]
    resumed = plan.resume(RAMP, aborted, 1300)

    assert held == Standing(33.33, 1100, Mode.HELD, "a look", revision=1)
    assert aborted == Standing(0, 1200, Mode.ABORTED, "errors", before=33.33, revision=2)
    assert resumed == Standing(1, 1300, revision=3)
    assert plan.hold(aborted, 5, 1400).mode is Mode.HELD


@pytest.mark.parametrize(
    ("steps", "percent", "back", "expected"),
    [
        (RAMP, 100, True, 10),
        (RAMP, 10, True, 1),
        (RAMP, 1, True, 0),
        (RAMP, 100, False, 0),
        (FIXED, 25, True, 0),
        (RAMP, 33, True, 10),
    ],
)
def test_an_abort_goes_back_to_nothing_or_to_the_step_before(
    steps: plan.Plan, percent: float, back: bool, expected: float
) -> None:
    aborted = plan.abort(steps, Standing(percent, since=0), 1, "why", back=back)

    assert (aborted.percent, aborted.before, aborted.mode) == (expected, percent, Mode.ABORTED)
    assert plan.abort(steps, aborted, 2, "again", back=back) is aborted


def test_an_aborted_step_is_resumed_where_it_fell_back_to() -> None:
    aborted = plan.abort(RAMP, Standing(100, since=0), 1, "why", back=True)

    assert plan.resume(RAMP, aborted, 2) == replace(
        aborted, percent=10, since=2, mode=Mode.FOLLOWING, reason="", before=0.0, revision=2
    )


@pytest.mark.parametrize("percent", [-1, 100.01, float("nan"), 33.333, True])
def test_a_percentage_that_is_none_is_refused(percent: float) -> None:
    with pytest.raises(PolicyError, match="percent"):
        plan.hold(AT_1, percent, 0)


def test_steps_that_do_not_rise_are_refused() -> None:
    with pytest.raises(PolicyError, match=r"plan\[1\]\.percent: 10 is not above the 10"):
        plan.rising((Step(percent=10), Step(percent=10)))
