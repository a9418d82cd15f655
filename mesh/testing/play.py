"""
A driver for tests: it answers a flow from a script and writes down everything that was said.

    play(flow, DOWN, "ok")  ->  ["attempt 1", Sleep(0.06), "attempt 2", "ok"]

An outcome that is an exception is thrown, one that is `Takes(seconds, outcome)` lets time pass
before it comes, any other is the reply.  Sleeps and waits pass at once on the clock given.
Branches of a race take their turns by the time at which something happens to them, so that a race
is played the same way every time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from mesh.call import Call, Idempotency, Method
from mesh.errors import CallFailed, Code, DeadlineSpent, MeshError
from mesh.flow import Attempt, Branch, Inner, Race, Step, Steps, Wait
from mesh.testing.clock import Clock

FOR_EVER = float("inf")
# Marks an answer that is only that the deadline has passed.
_EXPIRED = object()
TEST_METHOD = Method("/test/Call", idempotency=Idempotency.IDEMPOTENT)


@dataclass(frozen=True, slots=True)
class Takes:
    """An outcome that comes after `seconds`; one that takes for ever has seconds None."""

    seconds: float | None
    outcome: object = None


def play(
    flow: Inner, *outcomes: object, clock: Clock | None = None, call: Call | None = None
) -> list[object]:
    """Answer a flow's attempts with `outcomes`; return everything it said, its end included."""
    return Play(flow, *outcomes, clock=clock, call=call).run()


class Play:
    """One flow on stage; `said` is the transcript so far."""

    def __init__(
        self, flow: Inner, *outcomes: object, clock: Clock | None = None, call: Call | None = None
    ) -> None:
        self.call = call or Call(TEST_METHOD)
        self.clock = clock or Clock()
        self.said: list[object] = []
        self._script = deque(outcomes)
        self._steps = flow(self.call)

    def run(self) -> list[object]:
        """Play to the end; the last thing said is the reply, or the type of the error."""
        act = _Act(self, self._steps, self.call)
        try:
            while not act.done:
                if act.due == FOR_EVER:
                    raise AssertionError(f"{self.said[-1]} would wait for ever")
                act.step_at(act.due)
        finally:
            self._steps.close()
        if act.error is None:
            return [*self.said, act.reply]
        if isinstance(act.error, MeshError):
            return [*self.said, type(act.error)]
        raise act.error

    def outcome(self, call: Call) -> Takes:
        """The next line of the script, for an attempt of `call`."""
        self.said.append(f"attempt {call.attempt}")
        if not self._script:
            raise AssertionError(f"the script has no outcome for {self.said[-1]}")
        line = self._script.popleft()
        return line if isinstance(line, Takes) else Takes(0.0, line)


class _Act:
    """One flow in progress: the play's own, or a branch of a race within it."""

    def __init__(self, stage: Play, steps: Steps, call: Call) -> None:
        self._stage, self._steps, self._call = stage, steps, call
        self._step: Step
        self._answer: object = None
        self._branches: dict[Branch, _Act] = {}
        # When the present step ends by itself; inf when it never does.
        self.due = stage.clock.now
        self.done = False
        self.reply: Any = None
        self.error: BaseException | None = None
        self._proceed(lambda: next(steps))

    def step_at(self, now: float) -> None:
        """Let the present step end at `now`."""
        self._stage.clock.now = max(self._stage.clock.now, now)
        step, answer = self._step, self._answer
        if isinstance(step, Race):
            winner = self._raced(step)
            if winner is None and self._next_branch(step, now):
                return
            answer = winner
        elif isinstance(step, Wait):
            answer = step.signal.is_set
        expired = self._expired(answer)
        if expired is not None:
            answer = expired
        if isinstance(answer, BaseException):
            error = answer
            self._proceed(lambda: self._steps.throw(error))
        else:
            self._proceed(lambda: self._steps.send(answer))

    def _proceed(self, resume: Any) -> None:
        stage = self._stage
        try:
            step = self._step = resume()
        except StopIteration as done:
            self.done, self.reply = True, done.value
            return
        except BaseException as error:  # noqa: BLE001 - the play says how it ended
            self.done, self.error = True, error
            return
        now, self._answer = stage.clock.now, None
        if isinstance(step, Attempt):
            taken = stage.outcome(step.call)
            self._answer = taken.outcome
            self.due = FOR_EVER if taken.seconds is None else now + taken.seconds
            self._limit(step.call)
        elif isinstance(step, Race):
            stage.said.append("race" if step.seconds is None else f"race {step.seconds:g}")
            self._start(step, now)
        else:
            stage.said.append(step)
            self.due = FOR_EVER if step.seconds is None else now + step.seconds
            if isinstance(step, Wait) and step.signal.is_set:
                self.due = now
            self._limit(self._call)

    def _limit(self, call: Call) -> None:
        if call.deadline is not None and self.due > call.deadline:
            self.due = call.deadline
            self._answer = _EXPIRED

    def _expired(self, answer: object) -> MeshError | None:
        """What a driver throws when the deadline, not the step, ended the wait."""
        ended = answer is _EXPIRED or answer is None or answer is False
        if self._answer is not _EXPIRED or not ended:
            return None
        if isinstance(self._step, Attempt) or self._call.tried or self._call.attempt > 1:
            return CallFailed(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
        return DeadlineSpent("Deadline Exceeded")

    @property
    def woken(self) -> bool:
        """Whether the signal waited for is set."""
        return isinstance(self._step, Wait) and self._step.signal.is_set

    # -- races

    def _start(self, race: Race, now: float) -> None:
        for branch in race.branches:
            if branch not in self._branches and not branch.done:
                act = self._branches[branch] = _Act(self._stage, branch.steps, self._call)
                branch.on_close = act._close
                self._settle(branch)
        self._race_ends = FOR_EVER if race.seconds is None else now + race.seconds
        self._schedule(race, now)

    def _schedule(self, race: Race, now: float) -> None:
        self._answer = None
        if self._raced(race) is not None:
            self.due = now
            return
        acts = [self._branches[branch] for branch in race.branches]
        dues = [now if act.woken else act.due for act in acts]
        self.due = min([self._race_ends, *dues])
        self._limit(self._call)

    def _raced(self, race: Race) -> Branch | None:
        return next((branch for branch in race.branches if branch.done), None)

    def _next_branch(self, race: Race, now: float) -> bool:
        """Let the branch move whose time has come; False when the race's own time is up."""
        for branch in race.branches:
            act = self._branches[branch]
            if act.due <= now or act.woken:
                act.step_at(now)
                self._settle(branch)
                self._schedule(race, now)
                return True
        return False

    def _settle(self, branch: Branch) -> None:
        act = self._branches[branch]
        if act.done:
            branch.done, branch.on_close = True, None
            branch.reply, branch.error = act.reply, act.error

    def _close(self) -> None:
        self._stage.said.append("cancelled")
        self.done = True
        self._steps.close()
