"""The test driver itself: it answers, lets time pass, and plays races in order."""

import pytest

from mesh.call import Call, Method
from mesh.errors import CallFailed, Code, DeadlineSpent
from mesh.flow import Attempt, Branch, Race, Signal, Sleep, Wait, stack
from mesh.testing import Ceiling, Clock, play
from mesh.testing.play import Takes

CALL = Method("/test/Call")


def test_a_call_is_answered_from_the_script():
    assert play(stack(), "ok") == ["attempt 1", "ok"]
    assert play(stack(), CallFailed(Code.NOT_FOUND)) == ["attempt 1", CallFailed]


def test_a_script_that_is_too_short_is_the_tests_own_fault():
    with pytest.raises(AssertionError, match="the script has no outcome for attempt 1"):
        play(stack())


def test_an_error_that_is_no_call_failure_is_raised():
    def broken(call):
        raise KeyError("bug")
        yield

    with pytest.raises(KeyError):
        play(broken)


def test_sleeps_and_answers_take_time():
    def sleeping(call):
        yield Sleep(2.0)
        return (yield Attempt(call))

    clock = Clock(10.0)
    assert play(sleeping, Takes(0.5, "ok"), clock=clock) == [Sleep(2.0), "attempt 1", "ok"]
    assert clock.now == 12.5


def test_waits_end_with_the_signal_or_with_time():
    signal = Signal()

    def waiting(call):
        before = yield Wait(signal, 1.0)
        signal.set()
        return before, (yield Wait(signal, 1.0))

    clock = Clock()
    assert play(waiting, clock=clock)[-1] == (False, True)
    assert clock.now == 1.0


def test_the_deadline_cuts_attempts_and_waits():
    def sleeping(call):
        yield Sleep(9.0)

    assert play(sleeping, call=Call(CALL, deadline=1.0))[-1] is DeadlineSpent
    clock = Clock()
    said = play(stack(), Takes(None), clock=clock, call=Call(CALL, deadline=1.0))
    assert said == ["attempt 1", CallFailed]
    assert clock.now == 1.0


def test_what_would_wait_for_ever_is_told():
    with pytest.raises(AssertionError, match="attempt 1 would wait for ever"):
        play(stack(), Takes(None))


def test_the_first_branch_to_be_done_wins_and_losers_are_cancelled():
    def racing(call):
        branches = [Branch(stack()(call)), Branch(stack()(call))]
        try:
            winner = yield Race(branches, 10.0)
            return branches.index(winner), winner.result()
        finally:
            for branch in branches:
                branch.close()

    clock = Clock()
    said = play(racing, Takes(3.0, "slow"), Takes(1.0, "fast"), clock=clock)
    assert said == ["race 10", "attempt 1", "attempt 1", "cancelled", (1, "fast")]
    assert clock.now == 1.0


def test_a_race_may_end_by_time_and_be_run_again():
    def racing(call):
        branch = Branch(stack()(call))
        first = yield Race([branch], 1.0)
        second = yield Race([branch], 5.0)
        return first, second.result()

    clock = Clock()
    assert play(racing, Takes(3.0, "late"), clock=clock)[-1] == (None, "late")
    assert clock.now == 3.0


def test_a_branch_may_wake_another():
    signal = Signal()

    def waits(call):
        return (yield Wait(signal, None))

    def sets(call):
        yield Sleep(1.0)
        signal.set()
        yield Sleep(9.0)

    def racing(call):
        waiting, other = Branch(waits(call)), Branch(sets(call))
        winner = yield Race([waiting, other])
        other.close()
        return winner is waiting, winner.result()

    assert play(racing)[-1] == (True, True)


def test_a_signal_is_set_once_and_tells_whoever_comes_late():
    signal, heard = Signal(), []
    signal.subscribe(lambda: heard.append("early"))
    forgotten = lambda: heard.append("never")  # noqa: E731 - unsubscribing needs the same object
    signal.subscribe(forgotten)
    signal.unsubscribe(forgotten)
    signal.set()
    signal.set()
    signal.subscribe(lambda: heard.append("late"))
    assert heard == ["early", "late"]


def test_ceiling_draws_the_upper_bound():
    assert Ceiling().uniform(0.8, 1.2) == 1.2
    assert 0.99 < Ceiling().random() < 1.0
