"""
What the new side did lately: a sliding window that all workers write into and each can read.

    worker 0   | slice | slice | ... |      each worker writes its own row, so nobody locks;
    worker 1   | slice | slice | ... |      whoever judges adds the rows up
                 number, epoch, calls, failed, slow, compared, different

The rows are 64-bit integers in memory that the workers share (or in this process's own).  A row
carries the tag of the rule that it counts for: rows written under another rule count for nothing.
So do slices of another epoch: what was seen before a route moved was judged then.
A sum read while another worker writes may be one call behind; no judgement hangs on one call.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

SLICES = 10
_NUMBER, _EPOCH, _CALLS, _FAILED, _SLOW, _COMPARED, _DIFFERENT, _COLUMNS = range(8)
# A row: its tag, then its slices.
ROW = 1 + SLICES * _COLUMNS


class Total(NamedTuple):
    """What the window holds; `compared` answers were laid beside each other."""

    calls: int = 0
    failed: int = 0
    slow: int = 0
    compared: int = 0
    different: int = 0


def size(workers: int, routes: int) -> int:
    """How many bytes of memory so many rows take."""
    return workers * routes * ROW * 8


def tag_of(text: str) -> int:
    """A number that stands for a rule; never 0, which is an unwritten row's."""
    return int.from_bytes(blake2b(text.encode(), digest_size=7).digest()) or 1


class Evidence:
    """
    The window of one rule, `seconds` long, seen from one worker.

    `memory` is a view of int64, `routes` how many rows each worker has in it, `place` which one
    is this rule's.
    """

    def __init__(
        self,
        memory: memoryview,
        *,
        worker: int = 0,
        workers: int = 1,
        place: int = 0,
        routes: int = 1,
        tag: int = 1,
        seconds: float = 60.0,
    ) -> None:
        self._memory = memory
        self._width = seconds / SLICES
        self._tag = tag
        self._rows = [(number * routes + place) * ROW for number in range(workers)]
        self._own = self._rows[worker]
        if memory[self._own] != tag:
            memory[self._own] = 0
            for index in range(self._own + 1, self._own + ROW):
                memory[index] = 0
            memory[self._own] = tag

    def called(self, now: float, epoch: int = 0, *, failed: bool, slow: bool) -> None:
        """The new side was called; `now` is the machine's monotonic clock, one for all workers."""
        at = self._slice(now, epoch)
        memory = self._memory
        memory[at + _CALLS] += 1
        memory[at + _FAILED] += failed
        memory[at + _SLOW] += slow

    def compared(self, now: float, epoch: int = 0, *, different: bool) -> None:
        """Two answers were laid beside each other."""
        at = self._slice(now, epoch)
        self._memory[at + _COMPARED] += 1
        self._memory[at + _DIFFERENT] += different

    def total(self, now: float, epoch: int = 0) -> Total:
        """The sum of the window over all workers."""
        present = int(now / self._width)
        memory, sums = self._memory, [0] * 5
        for row in self._rows:
            if memory[row] != self._tag:
                continue
            for at in range(row + 1, row + ROW, _COLUMNS):
                if present - SLICES < memory[at] <= present and memory[at + _EPOCH] == epoch:
                    for column in range(5):
                        sums[column] += memory[at + _CALLS + column]
        return Total(*sums)

    def _slice(self, now: float, epoch: int) -> int:
        """Where the present slice lies, emptied when it holds a past one."""
        number = int(now / self._width)
        at = self._own + 1 + number % SLICES * _COLUMNS
        memory = self._memory
        if memory[at] != number or memory[at + _EPOCH] != epoch:
            for column in range(_CALLS, _COLUMNS):
                memory[at + column] = 0
            memory[at], memory[at + _EPOCH] = number, epoch
        return at
