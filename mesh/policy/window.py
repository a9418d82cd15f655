"""
Windows: what happened lately, among the last calls or in the last seconds.

    CountWindow(100)     [ . . x . . . x x . ]         a place a call, the oldest overwritten
    TimeWindow(60.0)     | 6 s | 6 s | ... | 6 s |     ten slices, the oldest dropped with time

Both answer `total(now)`: calls, failures, slow ones.  Neither reads a clock.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

SLICES = 10
FAILED, SLOW = 1, 2


class Total(NamedTuple):
    """What a window holds."""

    calls: int = 0
    failures: int = 0
    slow: int = 0


NOTHING = Total()


class Window(Protocol):
    """What happened lately."""

    def add(self, now: float, failed: bool, slow: bool) -> bool:
        """Record a call; whether any in the window is failed or slow: most often none is."""
        ...

    def total(self, now: float) -> Total: ...

    def clear(self) -> None: ...


class CountWindow:
    """The last `size` calls."""

    __slots__ = ("_failures", "_filled", "_marks", "_next", "_slow")

    def __init__(self, size: int) -> None:
        self._marks = bytearray(size)
        self._next = self._filled = self._failures = self._slow = 0

    def add(self, now: float, failed: bool, slow: bool) -> bool:
        """Record a call in the place of the oldest."""
        place, marks = self._next, self._marks
        old = marks[place]
        marks[place] = failed * FAILED + slow * SLOW
        self._failures += failed - (old & FAILED)
        self._slow += slow - (old >> 1)
        self._next = (place + 1) % len(marks)
        self._filled = min(self._filled + 1, len(marks))
        return self._failures > 0 or self._slow > 0

    def total(self, now: float) -> Total:
        return Total(self._filled, self._failures, self._slow)

    def clear(self) -> None:
        self._marks = bytearray(len(self._marks))
        self._next = self._filled = self._failures = self._slow = 0


class TimeWindow:
    """The last `seconds`, forgotten a slice at a time; the present one is counted apart."""

    __slots__ = (
        "_bad",
        "_calls",
        "_ends",
        "_failures",
        "_past",
        "_slice",
        "_slices",
        "_slow",
        "_width",
    )

    def __init__(self, seconds: float, slices: int = SLICES) -> None:
        self._width = seconds / slices
        # The number of the present slice, and when it ends.
        self._slice = 0
        self._ends = self._width
        self._slices = [NOTHING] * slices
        self.clear()

    def add(self, now: float, failed: bool, slow: bool) -> bool:
        """Record a call in the slice of `now`."""
        if now >= self._ends:
            self._roll(now)
        self._calls += 1
        if failed:
            self._failures += 1
            self._bad = True
        if slow:
            self._slow += 1
            self._bad = True
        return self._bad

    def total(self, now: float) -> Total:
        if now >= self._ends:
            self._roll(now)
        calls, failures, slow = self._past
        return Total(calls + self._calls, failures + self._failures, slow + self._slow)

    def clear(self) -> None:
        self._slices = [NOTHING] * len(self._slices)
        self._begin()

    def _roll(self, now: float) -> None:
        """Close the present slice, and forget those that time has passed over."""
        count, present = len(self._slices), int(now / self._width)
        if present > self._slice:
            self._slices[self._slice % count] = Total(self._calls, self._failures, self._slow)
            for past in range(max(self._slice + 1, present - count + 1), present + 1):
                self._slices[past % count] = NOTHING
            self._slice = present
            self._ends = (present + 1) * self._width
            self._begin()

    def _begin(self) -> None:
        """Count a slice from nothing, over the sum of those before it."""
        self._calls = self._failures = self._slow = 0
        self._past = Total(*(sum(counts) for counts in zip(*self._slices, strict=True)))
        self._bad = self._past.failures > 0 or self._past.slow > 0
