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


class Window(Protocol):
    """What happened lately."""

    def add(self, now: float, *, failed: bool, slow: bool) -> bool:
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

    def add(self, now: float, *, failed: bool, slow: bool) -> bool:
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
    """The last `seconds`, forgotten a slice at a time; sums are kept, so that asking is cheap."""

    __slots__ = ("_ends", "_present", "_slice", "_slices", "_sums", "_width")

    def __init__(self, seconds: float, slices: int = SLICES) -> None:
        self._width = seconds / slices
        self._slices = [[0, 0, 0] for _ in range(slices)]
        self._sums = [0, 0, 0]
        # The number of the present slice, itself, and when it ends.
        self._slice = 0
        self._present = self._slices[0]
        self._ends = self._width

    def add(self, now: float, *, failed: bool, slow: bool) -> bool:
        """Record a call in the slice of `now`."""
        if now >= self._ends:
            self._roll(now)
        counts, sums = self._present, self._sums
        counts[0] += 1
        sums[0] += 1
        if failed:
            counts[1] += 1
            sums[1] += 1
        if slow:
            counts[2] += 1
            sums[2] += 1
        return sums[1] > 0 or sums[2] > 0

    def total(self, now: float) -> Total:
        if now >= self._ends:
            self._roll(now)
        return Total(*self._sums)

    def clear(self) -> None:
        for counts in (self._sums, *self._slices):
            counts[:] = (0, 0, 0)

    def _roll(self, now: float) -> None:
        """Forget the slices that time has passed over."""
        count, present = len(self._slices), int(now / self._width)
        for past in range(max(self._slice + 1, present - count + 1), present + 1):
            counts = self._slices[past % count]
            for which, number in enumerate(counts):
                self._sums[which] -= number
            counts[:] = (0, 0, 0)
        self._slice = max(self._slice, present)
        self._present = self._slices[self._slice % count]
        self._ends = (self._slice + 1) * self._width
