"""
A circuit: one breaker's memory of one destination.

    CLOSED --trip--> OPEN --cool--> HALF_OPEN --mend--> CLOSED
                      ^-----------------relapse----------+

    from anywhere:  --force--> FORCED_OPEN    refuses all      --reset--> CLOSED
                    --disable--> DISABLED     passes all, sees nothing
                    --measure--> METRICS_ONLY passes all, counts, never trips

The whole automaton is TRANSITIONS; an event with no entry there is a bug.
A Circuit never reads a clock (`now` comes in) and is not thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING

from mesh.errors import CircuitOpen, PolicyError
from mesh.policy.window import CountWindow, TimeWindow, Total, Window

if TYPE_CHECKING:
    from mesh.policy.breaker import Breaker


class State(Enum):
    """What a circuit does with calls."""

    CLOSED = auto()
    OPEN = auto()
    HALF_OPEN = auto()
    FORCED_OPEN = auto()
    DISABLED = auto()
    METRICS_ONLY = auto()


# Names of their own: every call asks, and a member is looked up in its Enum the slow way.
CLOSED, OPEN, HALF_OPEN, FORCED_OPEN, DISABLED, METRICS_ONLY = State


class Event(Enum):
    """What happens to a circuit."""

    TRIP = auto()
    COOL = auto()
    MEND = auto()
    RELAPSE = auto()
    FORCE = auto()
    DISABLE = auto()
    MEASURE = auto()
    RESET = auto()


TRANSITIONS = {
    (State.CLOSED, Event.TRIP): State.OPEN,
    (State.OPEN, Event.COOL): State.HALF_OPEN,
    (State.HALF_OPEN, Event.MEND): State.CLOSED,
    (State.HALF_OPEN, Event.RELAPSE): State.OPEN,
    **{(state, Event.FORCE): State.FORCED_OPEN for state in State},
    **{(state, Event.DISABLE): State.DISABLED for state in State},
    **{(state, Event.MEASURE): State.METRICS_ONLY for state in State},
    **{(state, Event.RESET): State.CLOSED for state in State},
}
BY_HAND = {
    State.CLOSED: Event.RESET,
    State.FORCED_OPEN: Event.FORCE,
    State.DISABLED: Event.DISABLE,
    State.METRICS_ONLY: Event.MEASURE,
}


class Circuit:
    """One breaker's memory of one destination."""

    __slots__ = (
        "_admitted",
        "_answered",
        "_bad",
        "_changed",
        "_epoch",
        "_opened",
        "_reopens",
        "_slow",
        "_streak",
        "_streams",
        "_window",
        "rule",
        "state",
    )

    def __init__(
        self,
        rule: Breaker,
        changed: Callable[[State, State], None] | None = None,
        *,
        streams: bool = False,
    ) -> None:
        self.state = CLOSED
        self.rule = rule
        # Whether its calls may go on for days: how long one takes says nothing then.
        self._streams = streams
        self._changed = changed
        self._window: Window | None = None
        if rule.failure_rate is not None or rule.slow_rate is not None:
            seconds = rule.window_seconds
            self._window = TimeWindow(seconds) if seconds else CountWindow(rule.window_calls)
        # Admissions of an earlier epoch were made before the last transition.
        self._epoch = 0
        self._streak = 0
        # How often it opened since it was last closed, and until when (of HALF_OPEN: its end).
        self._opened = 0
        self._reopens = 0.0
        self._admitted = self._answered = self._bad = self._slow = 0

    @property
    def streams(self) -> bool:
        return self._streams

    def total(self, now: float) -> Total:
        """What the window holds; empty where the rule has no rates."""
        return self._window.total(now) if self._window is not None else Total()

    def retry_after(self, now: float) -> float:
        """Seconds until a call may be admitted again, as far as is known."""
        self._settle(now)
        if self.state is OPEN:
            return max(0.0, self._reopens - now)
        # A probe is out, or somebody forced it open: nobody knows; the next cooldown is a guess.
        return self.rule.cooldown

    def admits(self, now: float) -> bool:
        """Whether a call would be let through; it is not yet."""
        if self.state is CLOSED:
            return True
        self._settle(now)
        if self.state is OPEN:
            return now >= self._reopens
        if self.state is HALF_OPEN:
            return self._admitted < self.rule.probes
        return self.state is not FORCED_OPEN

    def admit(self, now: float) -> int:
        """
        Let one call through, or raise CircuitOpen; the epoch to `record` its outcome with.

        A call without an outcome (its caller gave up, or the answer says nothing) must `give_back`
        its epoch: it may be a probe's permit.
        """
        if self.state is CLOSED:
            return self._epoch
        if not self.admits(now):
            raise CircuitOpen(self.retry_after(now))
        if self.state is OPEN:
            self._fire(Event.COOL, now)
        elif self.state is HALF_OPEN and self._admitted == self._answered:
            # All probes so far were given back: the time for an answer runs from this one.
            self._reopens = now + self.rule.probe_seconds
        self._admitted += 1
        return self._epoch

    def set(self, state: State, now: float) -> None:
        """Put the circuit into a state by hand; CLOSED gives it back to the rule."""
        event = BY_HAND.get(state)
        if event is None:
            allowed = ", ".join(choice.name for choice in BY_HAND)
            raise PolicyError("circuit.state", state.name, f"is not one of {allowed}")
        self._fire(event, now)

    def record(self, epoch: int, now: float, seconds: float, ok: bool) -> None:
        """Take in how a call of `epoch` went, and how long it took."""
        # An answer sent before the last transition decides nothing.
        if epoch != self._epoch or self.state is DISABLED:
            return
        rule = self.rule
        slow = seconds > rule.slow_seconds and not self._streams
        if self.state is HALF_OPEN:
            self._record_probe(now, ok, slow)
            return
        self._streak = 0 if ok else self._streak + 1
        tripped = not ok and rule.failures is not None and self._streak >= rule.failures
        if self._window is not None and self._window.add(now, not ok, slow):
            tripped = tripped or rule.trips(self._window.total(now))
        if tripped and self.state is CLOSED:
            self._fire(Event.TRIP, now)

    def _record_probe(self, now: float, ok: bool, slow: bool) -> None:
        rule = self.rule
        self._answered += 1
        self._bad += not ok
        self._slow += slow
        if rule.relapses(self._bad, self._slow):
            self._fire(Event.RELAPSE, now)
        elif rule.mends(self._answered, self._bad, self._slow):
            self._fire(Event.MEND, now)

    def give_back(self, epoch: int) -> None:
        """Take back the permit of a call that never said how it went."""
        if self.state is HALF_OPEN and epoch == self._epoch:
            self._admitted -= 1

    def _settle(self, now: float) -> None:
        """Decide over probes that are out for too long, as of the time they were due."""
        if (
            self.state is HALF_OPEN
            and self._admitted > self._answered
            and self.rule.probe_seconds > 0
            and now >= self._reopens
        ):
            # A call that hangs is a failed probe; a stream that stands is a good one.
            self._fire(Event.MEND if self._streams else Event.RELAPSE, self._reopens)

    def _fire(self, event: Event, now: float) -> None:
        before, self.state = self.state, TRANSITIONS[self.state, event]
        self._epoch += 1
        self._streak = self._admitted = self._answered = self._bad = self._slow = 0
        if self.state is OPEN:
            self._opened += 1
            self._reopens = now + self.rule.seconds_open(self._opened)
        elif self.state is HALF_OPEN:
            self._reopens = now + self.rule.probe_seconds
        else:
            self._opened = 0
            if self._window is not None:
                self._window.clear()
        if self._changed is not None and self.state is not before:
            self._changed(before, self.state)
