"""
A turnstile lets the processes that write one file take turns.

SQLite's own lock is taken by whoever polls at the right moment: a busy writer that commits and
begins again starves the others.  Here two file locks make a queue of one:

    take TURN -> take LOCK -> give TURN back -> write -> give LOCK back

Whoever holds TURN is next, and the writer that has just finished must get TURN before it can be
next again; so two busy writers alternate.  The kernel gives both locks back when a process dies.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# How long a waiting writer sleeps between two looks, in seconds: at first, and at most.
_FIRST_LOOK, _LAST_LOOK = 0.0001, 0.001


class Turnstile:
    """The place of one writer (a connection, not a process) in the queue for `path`."""

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._turn = os.open(f"{path}-turn", flags, 0o644)
        try:
            self._lock = os.open(f"{path}-lock", flags, 0o644)
        except OSError:
            os.close(self._turn)
            raise

    def close(self) -> None:
        os.close(self._turn)
        os.close(self._lock)

    @contextmanager
    def passing(self, patience: float) -> Iterator[None]:
        """Hold the write lock inside; TimeoutError when others kept it for `patience` seconds."""
        deadline = time.monotonic() + patience
        with _held(self._turn, deadline):
            lock = _held(self._lock, deadline)
            lock.__enter__()
        try:
            yield
        finally:
            lock.__exit__(None, None, None)


@contextmanager
def _held(descriptor: int, deadline: float) -> Iterator[None]:
    pause = _FIRST_LOOK
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError from None
            time.sleep(pause)
            pause = min(_LAST_LOOK, pause * 2)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
