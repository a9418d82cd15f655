"""
One transaction of a saga's course: write what came of the last call, decide, announce the next.

    hold the lease -> write the outcome and run its hook -> turn back if too late -> decide
        -> announce the call and go on, or end, or give the lease back until another try

The first call is announced by the transaction that begins the saga.  So a saga of n calls takes
n + 1 commits, that one among them, and each call stands in the journal before it is made.  A step
that calls nobody takes none of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mesh.saga import journal
from mesh.saga.journal import Instance, Lease, Line
from mesh.saga.machine import Command, Do, State, Undo, backward, committed, decide, fold
from mesh.saga.saga import TIMED_OUT, Context, Saga, request_id
from mesh.store.database import Transaction


@dataclass(frozen=True, slots=True)
class Ask:
    """A call that the journal has announced: make it, and come back with its outcome."""

    command: Do | Undo
    context: Context
    # What the journal said then: later lines came in while the call was made.
    seen: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Begun:
    """A saga was entered; with the call that was announced with it, if one was."""

    ask: Ask | None


@dataclass(frozen=True, slots=True)
class Done:
    """The call was answered."""

    result: Any = None


@dataclass(frozen=True, slots=True)
class No:
    """The other side refused, and nothing happened there."""

    reason: str


@dataclass(frozen=True, slots=True)
class Lost:
    """Nobody knows whether it happened: ask again."""

    cause: str


@dataclass(frozen=True, slots=True)
class NotYet:
    """The step wants to be asked again after `seconds`, or at the next signal."""

    seconds: float


Outcome = Done | No | Lost | NotYet


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms a transaction is made: the time, the lease's end, and how long to wait."""

    now: float
    until: float
    delay: Callable[[int], float]
    # The runner is leaving: write the outcome, and let somebody else make the next call.
    leaving: bool = False


async def begin(
    tx: Transaction, saga: Saga, lease: Lease, data: Mapping[str, Any], now: float, until: float
) -> Begun | None:
    """
    Enter a new saga; None when there is one of this id.

    Under a lease that is somebody's its first call is announced; one that is free waits for who
    takes it.
    """
    deadline = None if saga.deadline is None else now + saga.deadline
    instance = await journal.insert(tx, lease, data, deadline, now, until)
    if instance is None:
        return None
    command = decide(saga.stages, ())
    if not lease.owner or not isinstance(command, Do) or saga.steps[command.step].do is None:
        return Begun(None)
    return Begun(_announce(tx, saga, instance, command, now))


async def advance(
    tx: Transaction,
    saga: Saga,
    lease: Lease,
    terms: Terms,
    asked: Ask | None = None,
    outcome: Outcome | None = None,
) -> Ask | None:
    """The saga's next call; None when it is over, parked, or left to whoever takes it next."""
    instance = await journal.hold(tx, lease, terms.until, asked.seen if asked else ())
    if asked and isinstance(outcome, Done | No):
        instance = await _record(tx, saga, instance, asked, outcome, terms.now)
    instance = _turn_if_late(tx, saga, instance, terms.now)
    command = decide(saga.stages, instance.entries)
    while isinstance(command, Do) and saga.steps[command.step].do is None:
        instance = await _do_here(tx, saga, instance, command, terms.now)
        command = decide(saga.stages, instance.entries)
    if isinstance(command, str):
        await _end(tx, saga, instance, command, terms.now)
        return None
    again = asked is not None and command == asked.command
    if again and isinstance(outcome, Lost):
        _postpone(tx, saga, instance, command, outcome.cause, terms)
        return None
    if again and isinstance(outcome, NotYet) and asked:
        fresh = any(line.entry.what == "signalled" for line in instance.lines[len(asked.seen) :])
        free_at = terms.now if fresh else terms.now + outcome.seconds
        journal.release(tx, instance.id, _before_deadline(saga, instance, free_at))
        return None
    if terms.leaving:
        journal.release(tx, instance.id, terms.now, attempts=instance.attempts)
        return None
    return _announce(tx, saga, instance, command, terms.now)


async def postpone(tx: Transaction, lease: Lease, terms: Terms, cause: str) -> None:
    """What came of the last call can't be written: give the lease back, ask again later."""
    instance = await journal.hold(tx, lease, terms.until)
    attempts = instance.attempts + 1
    free_at = terms.now + terms.delay(attempts)
    journal.release(tx, lease.id, free_at, attempts=attempts, cause=cause)


def turn(tx: Transaction, saga: Saga, instance: Instance, reason: str, now: float) -> bool:
    """Turn the saga back for `reason`, unless it is too late; answers whether it is going back."""
    if instance.state not in ("running", "parked"):
        return instance.state == "compensated"
    if backward(saga.stages, instance.entries):
        return True
    if committed(saga.stages, instance.entries):
        return False
    journal.write(tx, instance, "", "turned", reason, now)
    journal.wake(tx, instance.id, now)
    return True


async def _record(
    tx: Transaction, saga: Saga, instance: Instance, asked: Ask, outcome: Done | No, now: float
) -> Instance:
    step = saga.steps[asked.command.step]
    instance = journal.reset_attempts(tx, instance)
    match asked.command, outcome:
        case Do(), Done(result):
            instance = await _done(tx, saga, instance, asked.context, result, now)
        case Do(), No(reason):
            instance = journal.write(tx, instance, step.name, "refused", reason, now)
        case Undo(), Done():
            instance = journal.write(tx, instance, step.name, "undone", None, now)
            if step.undone:
                await step.undone(tx, asked.context)
    return instance


async def _do_here(
    tx: Transaction, saga: Saga, instance: Instance, command: Do, now: float
) -> Instance:
    """Do a step that asks nobody: nothing can come between its beginning and its end."""
    context = _context(saga, instance, command)
    instance = journal.write(tx, instance, command.step, "started", context.request_id, now)
    return await _done(tx, saga, instance, context, None, now)


async def _done(
    tx: Transaction, saga: Saga, instance: Instance, context: Context, result: Any, now: float
) -> Instance:
    instance = journal.write(tx, instance, context.step, "done", result, now)
    then = saga.steps[context.step].then
    if then:
        await then(tx, context, result)
    return instance


def _turn_if_late(tx: Transaction, saga: Saga, instance: Instance, now: float) -> Instance:
    late = instance.deadline is not None and now >= instance.deadline
    if not late or not _may_turn(saga, instance):
        return instance
    return journal.write(tx, instance, "", "turned", TIMED_OUT, now)


def _may_turn(saga: Saga, instance: Instance) -> bool:
    entries = instance.entries
    return not backward(saga.stages, entries) and not committed(saga.stages, entries)


def _before_deadline(saga: Saga, instance: Instance, free_at: float) -> float:
    """`free_at`, or the deadline if the saga would turn back there: a durable timer."""
    if instance.deadline is None or not _may_turn(saga, instance):
        return free_at
    return min(free_at, instance.deadline)


def _postpone(
    tx: Transaction, saga: Saga, instance: Instance, command: Command, cause: str, terms: Terms
) -> None:
    attempts = instance.attempts + 1
    if isinstance(command, Undo) and attempts >= saga.patience:
        journal.write(tx, instance, command.step, "parked", cause, terms.now)
        journal.settle(tx, instance.id, "parked", terms.now, cause, attempts)
        return
    free_at = _before_deadline(saga, instance, terms.now + terms.delay(attempts))
    journal.release(tx, instance.id, free_at, attempts=attempts, cause=cause)


def _announce(
    tx: Transaction, saga: Saga, instance: Instance, command: Do | Undo, now: float
) -> Ask:
    state = fold(saga.stages, instance.entries)[command.step]
    context = _context(saga, instance, command)
    if isinstance(command, Do) and state is State.WAITING:
        instance = journal.write(tx, instance, command.step, "started", context.request_id, now)
    elif isinstance(command, Undo) and state is not State.UNDOING:
        instance = journal.write(tx, instance, command.step, "undoing", context.request_id, now)
        instance = journal.reset_attempts(tx, instance)
    return Ask(command, context, instance.lines)


async def _end(
    tx: Transaction, saga: Saga, instance: Instance, outcome: journal.SagaState, now: float
) -> None:
    if saga.ended:
        reason = instance.reason if outcome == "compensated" else ""
        await saga.ended(tx, _context(saga, instance, None), outcome, reason)
    journal.settle(tx, instance.id, outcome, now)


def _context(saga: Saga, instance: Instance, command: Do | Undo | None) -> Context:
    step = command.step if command else ""
    phase = "undo" if isinstance(command, Undo) else "do"
    return Context(
        saga=saga.name,
        id=instance.id,
        step=step,
        request_id=request_id(saga.name, instance.id, step, phase) if command else "",
        data=instance.data,
        results=instance.details("done"),
        signals=instance.details("signalled"),
        attempts=instance.attempts,
    )
