"""
What a user writes: a Saga of Steps, each a call that happens and, for most, one that undoes it.

    Saga("place-order",
        Step("reserve", do=reserve_stock, undo=release_stock),
        Step("charge", do=charge_card, undo=refund_card, then=mark_paid),
        Step("confirm", do=confirm_order, kind="pivot"))

`do` and `undo` talk to the world and may be asked twice with the same `context.request_id`: the
other side must answer the same again, and an `undo` must bear that nothing ever happened.
`then`, `undone` and `ended` write to the saga's own database, in the transaction that journals it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid5

from mesh.saga.machine import Kind, SagaError, Stage, check
from mesh.store.database import Transaction

_REQUESTS = UUID("5ed3a6de-0f0a-4a52-9c5f-5a3c1b7b2f10")

# The reason with which a saga ends that was not through in time.
TIMED_OUT = "TIMED_OUT"


class Refused(Exception):
    """Raised by `do`: the other side said no, for `reason`, and nothing happened there."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Later(Exception):
    """Raised by `do` or `undo`: not yet; ask again in `seconds`, or at the next signal."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"in {seconds} s")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Context:
    """One call of one step: the same saga, step and phase have the same `request_id`, always."""

    saga: str
    id: str
    step: str
    request_id: str
    # What start() was given, and what the steps done so far have answered, by step.
    data: Mapping[str, Any]
    results: Mapping[str, Any]
    # What signal() was given, by name.
    signals: Mapping[str, Any]
    # Failed attempts of this call since it was last replayed; 0 is the first one.
    attempts: int = 0


Call = Callable[[Context], Awaitable[Any]]
Then = Callable[[Transaction, Context, Any], Awaitable[None]]
Undone = Callable[[Transaction, Context], Awaitable[None]]
Ended = Callable[[Transaction, Context, str, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Step:
    """
    One step: `do` it, `undo` it when a later one does not come about.

    compensatable   undone by `undo` (None: nothing is left to undo); stands before the pivot
    pivot           decides the saga: at most one, never undone
    retriable       cannot be refused: asked until it is done; stands behind the pivot

    `then(tx, context, result)` is committed with the news that it is done, `undone(tx, context)`
    with the news that it is undone.  What `do` answers is journalled as JSON.  A step without `do`
    asks nobody: all of it is its `then`, committed with the news of the step before.
    """

    name: str
    do: Call | None = None
    undo: Call | None = None
    kind: Kind = "compensatable"
    then: Then | None = None
    undone: Undone | None = None
    # Seconds for one call of do or undo; after them its outcome is unknown and it is asked again.
    timeout: float = 15.0

    @property
    def stage(self) -> Stage:
        return Stage(self.name, self.kind, self.undo is not None)


class Saga:
    """
    Steps in order, under a name.

    deadline   seconds a saga may take until its pivot; later, it turns back
    version    must change whenever the steps do; a saga is seen through by who knows its version
    ended      `ended(tx, context, outcome, reason)` is committed with the end, which is "completed"
               or "compensated"; then `reason` says why
    patience   failed calls of one undo after which the saga is parked for an operator
    """

    def __init__(
        self,
        name: str,
        *steps: Step,
        deadline: float | None = None,
        version: int = 1,
        ended: Ended | None = None,
        patience: int = 100,
    ) -> None:
        if not name or ":" in name:
            raise SagaError(f"{name!r}: a saga needs a name, without ':'")
        if deadline is not None and deadline <= 0:
            raise SagaError(f"{name}: deadline: {deadline!r} must be over 0 seconds")
        if patience < 1:
            raise SagaError(f"{name}: patience: {patience!r} must be at least one call")
        self.name = name
        self.steps = {step.name: step for step in steps}
        self.stages = tuple(step.stage for step in steps)
        self.deadline = deadline
        self.version = version
        self.ended = ended
        self.patience = patience
        check(self.stages)

    @property
    def definition(self) -> str:
        """Name, version and a print of the steps: what a journal was written by and is read by."""
        shape = "/".join(f"{stage.name} {stage.kind} {stage.undo}" for stage in self.stages)
        return f"{self.name}:{self.version}:{sha256(shape.encode()).hexdigest()[:12]}"


def request_id(saga: str, saga_id: str, step: str, phase: str) -> str:
    """The key under which this call is made, however often and by whichever runner."""
    return str(uuid5(_REQUESTS, "\n".join((saga, saga_id, step, phase))))
