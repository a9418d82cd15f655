"""
A call is a conversation: a flow says what to do next, a driver does it.

A *layer* is a generator function ``layer(call, inner)``.  ``yield from inner(call)`` makes the
inner call; the steps below are all that a flow may yield.  Layers see every outcome, decide
everything and do nothing: sockets, clocks, tasks and locks belong to the drivers, so one flow
serves asyncio stubs, blocking stubs, streams, interceptors and tests alike.

    stub call -> driver -> [deadlining -> retrying -> balancing -> breaking] -> Attempt
                   ^                                                              |
                   +------------------ reply or CallFailed -----------------------+

When the call's deadline passes, the driver throws: CallFailed at an Attempt, DeadlineSpent (or
CallFailed, when something had been sent) at a Sleep, Wait or Race.  Closing a flow cancels it.

Two rules for who changes this file: a step is data, never behaviour; and what a layer takes it
gives back in ``finally`` or ``with``, because a driver may close a flow at any yield.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Protocol

from msgspec import Struct

from mesh.call import Call


class Attempt(Struct, frozen=True):
    """Put the call on the wire.  Resumes with the reply, or throws CallFailed."""

    call: Call


@dataclass(frozen=True, slots=True)
class Sleep:
    """Resume after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Resume with True once `signal` is set, with False after `seconds` (None: at the deadline)."""

    signal: Signal
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Race:
    """
    Run `branches` side by side; resume with the first that is done, or with None after `seconds`.

    The others keep running and may be raced again.  A branch that is closed is cancelled.
    """

    branches: Sequence[Branch]
    seconds: float | None = None


Step = Attempt | Sleep | Wait | Race
Steps = Generator[Step, Any, Any]
Inner = Callable[[Call], Steps]


class Layer(Protocol):
    """One idea about calls, composable: everything between a stub and the wire is made of these."""

    def __call__(self, call: Call, inner: Inner) -> Steps: ...


class Signal:
    """
    Something that happens once, known to no event loop: whoever waits leaves a callback.

    Setting it twice is setting it once; a callback left after the fact runs at once.
    """

    __slots__ = ("_callbacks", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._callbacks: list[Callable[[], None]] = []

    def set(self) -> None:
        """Wake everyone who waits."""
        self.is_set = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Run `callback` when the signal is set, now if it is."""
        if self.is_set:
            callback()
        else:
            self._callbacks.append(callback)

    def unsubscribe(self, callback: Callable[[], None]) -> None:
        """Forget `callback`; one that has run already is forgotten anyway."""
        if callback in self._callbacks:
            self._callbacks.remove(callback)


class Branch:
    """
    A flow that runs beside others in a Race; `done` once it has a `reply` or an `error`.

    The driver fills in `on_close` when it starts the branch; the layer that made the branch
    closes it, always, and the loser of a race is thereby cancelled.
    """

    __slots__ = ("done", "error", "on_close", "reply", "steps")

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.done = False
        self.reply: Any = None
        self.error: BaseException | None = None
        self.on_close: Callable[[], None] | None = None

    def close(self) -> None:
        """Cancel the branch if it still runs."""
        on_close, self.on_close = self.on_close, None
        if on_close is not None:
            on_close()
        elif not self.done:
            self.steps.close()

    def result(self) -> Any:
        """The reply of a done branch, or its error raised."""
        if self.error is not None:
            raise self.error
        return self.reply


def stack(*layers: Layer) -> Inner:
    """Compose `layers`, outermost first: ``stack(a, b)`` is ``a(b(wire))``."""
    inner: Inner = _wire
    for layer in reversed(layers):
        inner = _around(inner, layer)
    return inner


def _around(inner: Inner, layer: Layer) -> Inner:
    """`layer` with `inner` filled in: as a default of the same function, which no call pays for."""
    if isinstance(layer, FunctionType):
        code, names, around = layer.__code__, layer.__globals__, layer.__closure__
        return FunctionType(code, names, layer.__name__, (inner,), around)
    return lambda call: layer(call, inner)


def _wire(call: Call) -> Steps:
    return (yield Attempt(call))
