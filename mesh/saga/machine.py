"""
Saga: a list of steps; when one fails, undo backwards what may have happened.

`decide` is the whole engine: given what was journalled it says what to do next.  It keeps no state,
so a runner may die between any two lines and another resumes from the journal.

                 +--started--+
                 v           |
    WAITING --started--> STARTED --done--> DONE          one step's life; every line is journalled
       |                    |  |             |           before (started, undoing) or after
       |                 refused +--undoing--+           (done, refused, undone) the call itself
       v                    v         v
       +----(local)----> REFUSED   UNDOING --undone--> UNDONE

The saga goes forward until a step is refused or something turns it (a cancellation, its deadline).
Then STARTED counts as done: nobody learned the answer, so it may have happened.  From the moment
the pivot is STARTED nothing turns the saga but the pivot's own refusal; once it is DONE, nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

Kind = Literal["compensatable", "pivot", "retriable"]
# What befell a step, and what befell the whole saga; of the latter only "turned" decides anything.
What = Literal[
    "started", "done", "refused", "undoing", "undone", "turned", "signalled", "parked", "replayed"
]
WHOLE: frozenset[What] = frozenset({"turned", "signalled", "parked", "replayed"})


class SagaError(ValueError):
    """A definition that makes no sense, or a journal that no such saga can have written."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What the machine knows of a step: where it may stand, and whether it is undone."""

    name: str
    kind: Kind = "compensatable"
    undo: bool = True


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal; `step` names no step where the line is of the WHOLE saga."""

    step: str
    what: What


class State(Enum):
    """Where one step is."""

    WAITING = "waiting"
    STARTED = "started"
    DONE = "done"
    REFUSED = "refused"
    UNDOING = "undoing"
    UNDONE = "undone"


# A line repeated says that a runner died and another asked again: the same call, the same request.
TRANSITIONS: dict[tuple[State, What], State] = {
    (State.WAITING, "started"): State.STARTED,
    (State.STARTED, "started"): State.STARTED,
    (State.STARTED, "done"): State.DONE,
    (State.STARTED, "refused"): State.REFUSED,
    (State.STARTED, "undoing"): State.UNDOING,
    (State.DONE, "undoing"): State.UNDOING,
    (State.UNDOING, "undoing"): State.UNDOING,
    (State.UNDOING, "undone"): State.UNDONE,
}


@dataclass(frozen=True, slots=True)
class Do:
    """Call the step, for the first time or again: after `started`, the answer was never learned."""

    step: str


@dataclass(frozen=True, slots=True)
class Undo:
    """Call the step's undo, for the first time or again."""

    step: str


Command = Do | Undo | Literal["completed", "compensated"]


def check(stages: Sequence[Stage]) -> None:
    """Refuse stages that can't be a saga: SagaError names the step and what is wrong with it."""
    if not stages:
        raise SagaError("a saga needs at least one step")
    seen: set[str] = set()
    behind = False
    for stage in stages:
        if not stage.name or stage.name in seen:
            raise SagaError(f"step {stage.name!r}: every step needs a name of its own")
        if stage.kind not in ("compensatable", "pivot", "retriable"):
            raise SagaError(f"step {stage.name!r}: there is no kind {stage.kind!r}")
        if stage.undo and stage.kind != "compensatable":
            raise SagaError(f"step {stage.name!r}: a {stage.kind} step is never undone")
        if behind and stage.kind != "retriable":
            raise SagaError(f"step {stage.name!r}: behind the pivot every step is retriable")
        if not behind and stage.kind == "retriable":
            raise SagaError(f"step {stage.name!r}: a retriable step stands behind the pivot")
        behind = behind or stage.kind == "pivot"
        seen.add(stage.name)


def fold(stages: Sequence[Stage], journal: Iterable[Entry]) -> dict[str, State]:
    """Where each step is; SagaError for a line that can't stand where it does."""
    states = {stage.name: State.WAITING for stage in stages}
    for entry in journal:
        if entry.what in WHOLE:
            continue
        state = states.get(entry.step)
        after = state and TRANSITIONS.get((state, entry.what))
        if after is None:
            raise SagaError(f"journal: {entry.step!r} is {state and state.value}, not {entry.what}")
        states[entry.step] = after
    return states


def backward(stages: Sequence[Stage], journal: Sequence[Entry]) -> bool:
    """Whether the saga is on its way back."""
    states = fold(stages, journal)
    if State.REFUSED in states.values():
        return True
    turned = any(entry.what == "turned" for entry in journal)
    return turned and not committed(stages, journal)


def committed(stages: Sequence[Stage], journal: Sequence[Entry]) -> bool:
    """Whether it is too late to turn: the pivot happened or may have, or every step is done."""
    states = fold(stages, journal)
    if all(state is State.DONE for state in states.values()):
        return True
    pivot = next((states[stage.name] for stage in stages if stage.kind == "pivot"), None)
    return pivot in (State.STARTED, State.DONE)


def decide(stages: Sequence[Stage], journal: Sequence[Entry]) -> Command:
    """What to do next."""
    states = fold(stages, journal)
    if not backward(stages, journal):
        todo = (stage.name for stage in stages if states[stage.name] is not State.DONE)
        return next((Do(name) for name in todo), "completed")
    for stage in reversed(stages):
        if stage.undo and states[stage.name] in (State.STARTED, State.DONE, State.UNDOING):
            return Undo(stage.name)
    return "compensated"
