"""
A registration kept alive: the agent may die, restart empty or forget, the instance stays known.

                  done                       lost (404, 500 unknown check)
      ABSENT ------------> KEPT <--------+   +--------------> ABSENT, at once
        |  ^                |            |   |
        |  | refused, down  +- confirm --+---+--------------> KEPT, after a backoff (down)
        +--+ after a backoff               \\---------------> TAKEN (another address has the id)

`Keeping` is the pure core: what to do next and when, given what came of the last step.
`keep` is its asyncio runner.  Two rules for a change: a confirmation comes at least every
third of the ttl; a later registration with our id wins, since a ghost cannot register itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from enum import Enum
from random import Random
from typing import Protocol

from discovery.errors import DiscoveryError
from discovery.model import Instance
from discovery.pace import Backoff
from discovery.registry import Registration

LOG = logging.getLogger(__name__)

PERIOD_SECONDS = 2.0
STEP_SECONDS = 2.0
LEAVE_SECONDS = 3.0
# An agent takes a deregistration before its servers do.  It tells them at once, or, when that
# fails, a quarter of a minute later; after INSIST_SECONDS they are told past it.
UNLISTED_SECONDS = 4.0
INSIST_SECONDS = 1.0


class Step(Enum):
    """What the keeper of a registration does next."""

    REGISTER = "register"
    CONFIRM = "confirm"


class Outcome(Enum):
    """What came of a step."""

    DONE = "done"
    LOST = "lost"  # the agent answers, and knows nothing of us
    TAKEN = "taken"  # the agent answers, and our id is at another address
    REFUSED = "refused"  # the agent answers, and does not want us
    DOWN = "down"  # no answer, or a 5xx that says nothing about us


class State(Enum):
    ABSENT = "absent"
    KEPT = "kept"
    TAKEN = "taken"


# (state, outcome) -> the state after it; a pair without an entry cannot happen.
_AFTER = {
    (State.ABSENT, Outcome.DONE): State.KEPT,
    (State.ABSENT, Outcome.LOST): State.ABSENT,
    (State.ABSENT, Outcome.REFUSED): State.ABSENT,
    (State.ABSENT, Outcome.DOWN): State.ABSENT,
    (State.KEPT, Outcome.DONE): State.KEPT,
    (State.KEPT, Outcome.LOST): State.ABSENT,
    (State.KEPT, Outcome.TAKEN): State.TAKEN,
    (State.KEPT, Outcome.REFUSED): State.KEPT,
    (State.KEPT, Outcome.DOWN): State.KEPT,
    (State.TAKEN, Outcome.DONE): State.KEPT,
    (State.TAKEN, Outcome.LOST): State.ABSENT,
    (State.TAKEN, Outcome.TAKEN): State.TAKEN,
    (State.TAKEN, Outcome.REFUSED): State.TAKEN,
    (State.TAKEN, Outcome.DOWN): State.TAKEN,
}


class Keeping:
    """The memory of one registration; `period` is the seconds between confirmations."""

    def __init__(self, period: float = PERIOD_SECONDS, *, now: float = 0.0) -> None:
        self.state = State.ABSENT
        self.due = now
        self._period = period
        self._backoff = Backoff(most=period)

    @property
    def step(self) -> Step:
        return Step.REGISTER if self.state is State.ABSENT else Step.CONFIRM

    def came_of_it(self, outcome: Outcome, now: float, rng: Random) -> None:
        """Record what the step came to; sets `state` and when the next step is `due`."""
        was, self.state = self.state, _AFTER[self.state, outcome]
        if outcome in (Outcome.DOWN, Outcome.REFUSED) or self.state is was is State.ABSENT:
            self.due = now + self._backoff.failed(rng)
            return
        self._backoff.succeeded()
        if self.state is State.ABSENT:
            self.due = now
        else:
            # Jitter of 0-20 %, so that a thousand instances do not confirm in step; earlier only.
            self.due = now + self._period * (1.0 - 0.2 * rng.random())


def period(instance: Instance) -> float:
    """Seconds between confirmations: two, or a third of the ttl if that is sooner."""
    check = instance.check
    if check is not None and check.kind == "ttl":
        return min(PERIOD_SECONDS, check.ttl / 3.0)
    return PERIOD_SECONDS


@dataclass(frozen=True, slots=True)
class Told:
    """An outcome and, where it is not DONE, what the agent said."""

    outcome: Outcome
    why: str = ""


class Desk(Protocol):
    """Where a lease registers: the agent, seen from one registration."""

    async def register(self, instance: Instance) -> Told: ...

    async def confirm(self, instance: Instance) -> Told:
        """Still there, with our address?  Also the heartbeat of a ttl check."""
        ...

    async def deregister(self, instance: Instance) -> Told: ...

    async def unlisted(self, instance: Instance, *, insist: bool) -> Told:
        """Has it gone from what watchers are told?  To `insist` is to take it out there."""
        ...


class Lease:
    """A live registration; `leave` ends it early and may be called again."""

    def __init__(
        self, instance: Instance, desk: Desk, *, step_seconds: float, leave_seconds: float
    ) -> None:
        self.instance = instance
        self._desk = desk
        self._step_seconds = step_seconds
        self._leave_seconds = leave_seconds
        self._keeping = Keeping(period(instance), now=time.monotonic())
        self._rng = Random()
        self._task: asyncio.Task[None] | None = None
        self._leaving = asyncio.Event()
        self._leave_once = asyncio.Lock()
        self._left = False
        self._said: tuple[State, Outcome] | None = None

    async def begin(self) -> None:
        """Register once, and keep at it; only a refusal is an error, an agent may come later."""
        told = await self._step()
        if told.outcome is Outcome.REFUSED:
            raise DiscoveryError(f"{self.instance.id} was not registered: {told.why}")
        self._task = asyncio.create_task(self._run(), name=f"lease of {self.instance.id}")

    async def leave(self) -> None:
        async with self._leave_once:
            if self._left:
                return
            self._left = True
            self._leaving.set()
            try:
                # A step on its way is bounded and awaited: cut off, it could arrive after us.
                if self._task is not None:
                    await self._task
            finally:
                await self._deregister()

    async def _run(self) -> None:
        while not self._leaving.is_set():
            wait = max(0.0, self._keeping.due - time.monotonic())
            try:
                async with asyncio.timeout(wait):
                    await self._leaving.wait()
            except TimeoutError:
                await self._step()

    async def _step(self) -> Told:
        keeping, was = self._keeping, self._keeping.state
        act = self._desk.register if keeping.step is Step.REGISTER else self._desk.confirm
        told = await self._bounded(act(self.instance))
        keeping.came_of_it(told.outcome, time.monotonic(), self._rng)
        self._tell(was, keeping.state, told)
        return told

    def _tell(self, was: State, now: State, told: Told) -> None:
        """One line when something changed, not one a period."""
        said = (now, told.outcome)
        if said == self._said:
            return
        self._said = said
        name = self.instance.id
        match told.outcome:
            case Outcome.DONE:
                LOG.info("%s is registered", name)
            case Outcome.LOST:
                LOG.warning("%s was forgotten by the registry and registers again", name)
            case Outcome.TAKEN:
                LOG.error("%s: another process has registered this id: %s", name, told.why)
            case Outcome.REFUSED | Outcome.DOWN:
                LOG.warning("%s is %s, the registry said: %s", name, was.value, told.why)

    async def _deregister(self) -> None:
        """Several tries within `leave_seconds`; what stays behind, the registry's check removes."""
        if self._keeping.state is State.TAKEN:
            return
        backoff = Backoff()
        deadline = time.monotonic() + self._leave_seconds
        while True:
            told = await self._bounded(self._desk.deregister(self.instance))
            if told.outcome is not Outcome.DOWN:
                break
            wait = backoff.failed(self._rng)
            if time.monotonic() + wait > deadline:
                LOG.warning("%s could not be deregistered: %s", self.instance.id, told.why)
                return
            await asyncio.sleep(wait)
        if told.outcome is Outcome.DONE:
            await self._unlisted()

    async def _unlisted(self) -> None:
        """Return when nobody is told of us any more: then those who watch hear it."""
        backoff, begun = Backoff(first=0.05, most=0.5), time.monotonic()
        while True:
            insist = time.monotonic() > begun + INSIST_SECONDS
            told = await self._bounded(self._desk.unlisted(self.instance, insist=insist))
            if told.outcome is Outcome.DONE:
                return
            if time.monotonic() > begun + UNLISTED_SECONDS:
                LOG.warning("%s left and is listed still: %s", self.instance.id, told.why)
                return
            await asyncio.sleep(backoff.failed(self._rng))

    async def _bounded(self, step: Awaitable[Told]) -> Told:
        try:
            async with asyncio.timeout(self._step_seconds):
                return await step
        except TimeoutError:
            return Told(Outcome.DOWN, f"no answer within {self._step_seconds:g} s")


@contextlib.asynccontextmanager
async def keep(
    instance: Instance,
    desk: Desk,
    *,
    step_seconds: float = STEP_SECONDS,
    leave_seconds: float = LEAVE_SECONDS,
) -> AsyncIterator[Registration]:
    """Registered inside the block, deregistered when it is left, whatever ends it."""
    lease = Lease(instance, desk, step_seconds=step_seconds, leave_seconds=leave_seconds)
    try:
        await lease.begin()
        yield lease
    finally:
        await lease.leave()
