"""
Drivers: they do what a flow says, one on asyncio, one on threads.

    flow says          on asyncio                        on threads
    Attempt(call)      await wire(call)                  wire(call, stop), lock released
    Sleep(s)           asyncio.sleep                     Event.wait
    Wait(signal, s)    a future set by the signal        an Event set by the signal
    Race(branches, s)  a task a branch                   a thread a branch

Two rules for who changes this file: a flow is closed whatever happens, so that its layers give back
what they took; and on threads every step of a flow runs under the target's lock, while nothing
that waits does, so that the memories of policies need no locks of their own.

A *wire* puts one attempt out and returns its reply or raises CallFailed; it ends by the deadline
of the call it is given.  What waits between attempts is bounded by the deadline here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from time import monotonic
from typing import Any, Protocol, cast

from mesh.call import Call
from mesh.errors import CallFailed, Code, DeadlineSpent, MeshError
from mesh.flow import Attempt, Branch, Race, Signal, Sleep, Step, Steps, Wait

Wire = Callable[[Call], Awaitable[Any]]
Clock = Callable[[], float]


async def drive(
    steps: Steps, call: Call, wire: Wire, clock: Clock = monotonic, first: Step | None = None
) -> Any:
    """
    Run a flow to its end on asyncio: its reply, or its MeshError; cancelling closes it.

    `first` is the step at which a flow stands that has begun already.
    """
    tasks: dict[Branch, asyncio.Task[Any]] = {}
    try:
        step = next(steps) if first is None else first
        while True:
            try:
                answer = (
                    await wire(step.call)
                    if type(step) is Attempt
                    else await _wait(step, call, wire, clock, tasks)
                )
            except MeshError as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as done:
        return done.value
    finally:
        steps.close()
        for task in tasks.values():
            task.cancel()


async def _wait(
    step: Step, call: Call, wire: Wire, clock: Clock, tasks: dict[Branch, asyncio.Task[Any]]
) -> Any:
    wanted, seconds = _bounded(step, call, clock)
    answered, answer = False, cast("Any", None)
    if isinstance(step, Sleep):
        await asyncio.sleep(seconds or 0.0)
    elif isinstance(step, Wait):
        answered = answer = await _signalled(step.signal, seconds)
    elif isinstance(step, Race):
        for branch in step.branches:
            if branch not in tasks and not branch.done:
                task = asyncio.ensure_future(drive(branch.steps, call, wire, clock))
                tasks[branch], branch.on_close = task, partial(_cancel, task)
        answer = await _raced(step.branches, seconds, tasks)
        answered = answer is not None
    if not answered and _cut(wanted, seconds):
        raise expired(call)
    return answer


def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()


async def _signalled(signal: Signal, seconds: float | None) -> bool:
    if signal.is_set:
        return True
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bool] = loop.create_future()

    def settle(value: bool = True) -> None:
        if not future.done():
            future.set_result(value)

    timer = None if seconds is None else loop.call_later(seconds, settle, False)
    signal.subscribe(settle)
    try:
        return await future
    finally:
        signal.unsubscribe(settle)
        if timer is not None:
            timer.cancel()


async def _raced(
    branches: Sequence[Branch],
    seconds: float | None,
    tasks: Mapping[Branch, asyncio.Task[Any]],
) -> Branch | None:
    racing = {tasks[branch]: branch for branch in branches if not branch.done}
    if len(racing) == len(branches):
        await asyncio.wait(racing, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task, branch in racing.items():
        if task.done():
            branch.done, branch.on_close = True, None
            branch.error = asyncio.CancelledError() if task.cancelled() else task.exception()
            branch.reply = None if branch.error else task.result()
    return next((branch for branch in branches if branch.done), None)


class BlockingWire(Protocol):
    """A wire for threads; where `stop` is given, setting it must end the attempt with Stopped."""

    def __call__(self, call: Call, stop: Signal | None) -> Any: ...


class Stopped(BaseException):
    """The conversation was told to stop from outside: a cancelled future, the loser of a race."""


class Blocking:
    """Runs flows on the calling thread; all flows over one target's memory share one `lock`."""

    def __init__(self, clock: Clock = monotonic) -> None:
        self.lock = threading.RLock()
        self._clock = clock

    def drive(
        self, steps: Steps, call: Call, wire: BlockingWire, stop: Signal | None = None
    ) -> Any:
        """Run a flow to its end: its reply, or its MeshError raised; Stopped once `stop` is set."""
        lock, runners = self.lock, dict[Branch, _Runner]()
        try:
            with lock:
                step = next(steps)
            while True:
                try:
                    if stop is not None and stop.is_set:
                        raise Stopped
                    answer = (
                        wire(step.call, stop)
                        if type(step) is Attempt
                        else self._wait(step, call, wire, stop, runners)
                    )
                except MeshError as error:
                    with lock:
                        step = steps.throw(error)
                else:
                    with lock:
                        step = steps.send(answer)
        except StopIteration as done:
            return done.value
        finally:
            with lock:
                steps.close()
                for runner in runners.values():
                    runner.stop.set()

    def _wait(
        self,
        step: Step,
        call: Call,
        wire: BlockingWire,
        stop: Signal | None,
        runners: dict[Branch, _Runner],
    ) -> Any:
        wanted, seconds = _bounded(step, call, self._clock)
        answered, answer = False, cast("Any", None)
        if isinstance(step, Sleep):
            self.pause(seconds, stop)
        elif isinstance(step, Wait):
            self.pause(seconds, stop, step.signal)
            answered = answer = step.signal.is_set
        elif isinstance(step, Race):
            with self.lock:
                for branch in step.branches:
                    if branch not in runners and not branch.done:
                        runners[branch] = _Runner(self, branch, call, wire)
            racing = [runners[branch] for branch in step.branches if not branch.done]
            if len(racing) == len(step.branches):
                self.pause(seconds, stop, *(runner.finished for runner in racing))
            answer = next((branch for branch in step.branches if branch.done), None)
            answered = answer is not None
        if stop is not None and stop.is_set:
            raise Stopped
        if not answered and _cut(wanted, seconds):
            raise expired(call)
        return answer

    def pause(self, seconds: float | None, *signals: Signal | None) -> None:
        """Wait until one of `signals` is set, or for `seconds`; the lock must not be held."""
        woken = threading.Event()
        awaited = [signal for signal in signals if signal is not None]
        with self.lock:
            for signal in awaited:
                signal.subscribe(woken.set)
        try:
            woken.wait(seconds)
        finally:
            with self.lock:
                for signal in awaited:
                    signal.unsubscribe(woken.set)


class _Runner(threading.Thread):
    """One branch of a race on a thread of its own, in its parent's context; made under the lock."""

    def __init__(self, driver: Blocking, branch: Branch, call: Call, wire: BlockingWire) -> None:
        super().__init__(name="mesh-branch", daemon=True)
        self.stop, self.finished = Signal(), Signal()
        self._driver, self._branch, self._call, self._wire = driver, branch, call, wire
        self._context = copy_context()
        branch.on_close = self.stop.set
        self.start()

    def run(self) -> None:
        branch, reply, failure = self._branch, None, None
        try:
            reply = self._context.run(
                self._driver.drive, branch.steps, self._call, self._wire, self.stop
            )
        except BaseException as error:  # noqa: BLE001 - the race hands it to whoever asks for the result
            failure = error
        with self._driver.lock:
            branch.reply, branch.error = reply, failure
            branch.done, branch.on_close = True, None
            self.finished.set()


def expired(call: Call) -> MeshError:
    """The deadline passed: before anything was sent, or after attempts had been made."""
    if call.tried or call.attempt > 1:
        return CallFailed(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
    return DeadlineSpent("Deadline Exceeded")


def _bounded(step: Step, call: Call, clock: Clock) -> tuple[float | None, float | None]:
    """How long the step wants to wait, and how long the deadline lets it; None is for ever."""
    wanted: float | None = getattr(step, "seconds", None)
    remaining = call.remaining(clock())
    if remaining is None or (wanted is not None and wanted <= remaining):
        return wanted, wanted
    return wanted, remaining


def _cut(wanted: float | None, seconds: float | None) -> bool:
    """Whether the deadline, not the step, ended the wait."""
    return seconds is not None and (wanted is None or seconds < wanted)
