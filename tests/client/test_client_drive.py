"""The drivers do what flows say: on asyncio and on threads, to the same end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest

from mesh.call import Call, Method
from mesh.drive import Blocking, Stopped, drive
from mesh.errors import CallFailed, Code, DeadlineSpent
from mesh.flow import Attempt, Branch, Race, Signal, Sleep, Steps, Wait

DOWN = CallFailed(Code.UNAVAILABLE, "down")
Flow = Callable[[Call], Steps]


def new_call(seconds: float | None = None) -> Call:
    return Call(
        Method("/test.Echo/Say"), deadline=None if seconds is None else monotonic() + seconds
    )


async def on_asyncio(flow: Flow, call: Call, *outcomes: object) -> Any:
    script = list(outcomes)

    async def wire(call: Call) -> object:
        outcome = script.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return await asyncio.wait_for(drive(flow(call), call, wire), 5)


async def on_threads(flow: Flow, call: Call, *outcomes: object) -> Any:
    script = list(outcomes)

    def wire(call: Call, stop: Signal | None) -> object:
        outcome = script.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    driver = Blocking()
    return await asyncio.wait_for(asyncio.to_thread(driver.drive, flow(call), call, wire), 5)


both = pytest.mark.parametrize("run", [on_asyncio, on_threads])


@both
async def test_an_attempt_resumes_with_the_reply_or_throws(run):
    def flow(call: Call) -> Steps:
        try:
            yield Attempt(call)
        except CallFailed as failure:
            return failure.code, (yield Attempt(call))

    assert await run(flow, new_call(), DOWN, "ok") == (Code.UNAVAILABLE, "ok")


@both
async def test_a_failure_the_flow_lets_through_is_raised(run):
    def flow(call: Call) -> Steps:
        return (yield Attempt(call))

    with pytest.raises(CallFailed) as caught:
        await run(flow, new_call(), DOWN)
    assert caught.value is DOWN


@both
async def test_a_sleep_takes_its_time(run):
    def flow(call: Call) -> Steps:
        yield Sleep(0.03)
        return "awake"

    started = monotonic()
    assert await run(flow, new_call(5)) == "awake"
    assert monotonic() - started >= 0.03


@both
async def test_the_deadline_ends_a_sleep(run):
    def flow(call: Call) -> Steps:
        yield Sleep(60)

    with pytest.raises(DeadlineSpent):
        await run(flow, new_call(0.02))


@both
async def test_the_deadline_of_a_call_that_was_sent_is_no_refusal(run):
    def flow(call: Call) -> Steps:
        call.tried.append("one")
        yield Wait(Signal())

    with pytest.raises(CallFailed) as caught:
        await run(flow, new_call(0.02))
    assert caught.value.code is Code.DEADLINE_EXCEEDED


@both
async def test_a_wait_says_whether_the_signal_came(run):
    early, never, late = Signal(), Signal(), Signal()
    early.set()

    def flow(call: Call) -> Steps:
        threading.Timer(0.01, late.set).start() if run is on_threads else None
        if run is on_asyncio:
            asyncio.get_running_loop().call_later(0.01, late.set)
        return (yield Wait(early)), (yield Wait(never, 0.01)), (yield Wait(late, 5))

    assert await run(flow, new_call(5)) == (True, False, True)


@both
async def test_a_race_is_won_by_the_first_and_the_others_run_on(run):
    def branch(seconds: float, reply: str) -> Steps:
        yield Sleep(seconds)
        return reply

    def flow(call: Call) -> Steps:
        slow, quick = Branch(branch(1.0, "slow")), Branch(branch(0.01, "quick"))
        try:
            nobody = yield Race((slow,), 0.001)
            first = yield Race((slow, quick))
            second = yield Race((slow,))
            return nobody, first.result(), second.result()
        finally:
            slow.close()
            quick.close()

    assert await run(flow, new_call(5)) == (None, "quick", "slow")


@both
async def test_a_branch_that_fails_hands_its_error_to_who_asks(run):
    def branch() -> Steps:
        raise DOWN
        yield

    def flow(call: Call) -> Steps:
        done = yield Race((Branch(branch()),))
        return done.result()

    with pytest.raises(CallFailed) as caught:
        await run(flow, new_call(5))
    assert caught.value is DOWN


@both
async def test_the_loser_of_a_race_gives_back_what_it_took(run):
    given_back = threading.Event()

    def loser() -> Steps:
        try:
            yield Sleep(60)
        finally:
            given_back.set()

    def winner() -> Steps:
        yield Sleep(0.02)
        return "won"

    def flow(call: Call) -> Steps:
        branches = (Branch(loser()), Branch(winner()))
        try:
            return (yield Race(branches)).result()
        finally:
            for branch in branches:
                branch.close()

    assert await run(flow, new_call()) == "won"
    assert await asyncio.to_thread(given_back.wait, 5)


async def test_cancelling_closes_the_flow():
    closed = []

    def flow(call: Call) -> Steps:
        try:
            yield Sleep(60)
        finally:
            closed.append(True)

    call = new_call()
    task = asyncio.ensure_future(drive(flow(call), call, lambda _: asyncio.sleep(60)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed


async def test_stopping_closes_a_flow_on_a_thread():
    closed = []

    def flow(call: Call) -> Steps:
        try:
            yield Sleep(60)
        finally:
            closed.append(True)

    def wire(call: Call, stop: Signal | None) -> None:
        raise AssertionError

    driver, stop, call = Blocking(), Signal(), new_call()
    running = asyncio.to_thread(driver.drive, flow(call), call, wire, stop)
    task = asyncio.ensure_future(running)
    await asyncio.sleep(0.02)
    with driver.lock:
        stop.set()
    with pytest.raises(Stopped):
        await asyncio.wait_for(task, 5)
    assert closed


async def test_an_error_that_is_no_failure_closes_the_flow_and_is_raised():
    closed = []

    def flow(call: Call) -> Steps:
        try:
            yield Attempt(call)
        finally:
            closed.append(True)

    with pytest.raises(ZeroDivisionError):
        await on_asyncio(flow, new_call(), ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await on_threads(flow, new_call(), ZeroDivisionError())
    assert closed == [True, True]


async def test_steps_on_threads_never_overlap():
    inside, most = 0, 0

    def flow(call: Call) -> Steps:
        nonlocal inside, most
        for _ in range(20):
            inside += 1
            most = max(most, inside)
            for _ in range(200):
                pass
            inside -= 1
            yield Sleep(0.0)
        return "done"

    driver = Blocking()

    def run() -> Any:
        call = new_call()
        return driver.drive(flow(call), call, lambda *_: None)

    assert await asyncio.gather(*(asyncio.to_thread(run) for _ in range(8))) == ["done"] * 8
    assert most == 1
