"""
What the workers of one gateway have in common: memory by name, in a directory of their own.

    Together()                         one process: its memory is its own
    Together(directory, 1, 4)          the second of four; their supervisor made the directory

The memory is a mapped file, zero at first.  Its readers and writers agree on whose row is whose,
or take `Memory.lock`, which the kernel gives back when a process dies.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

RAM = Path("/dev/shm")  # noqa: S108 - a directory of a random name in it


class Memory:
    """Bytes that all workers see; `view` may be cast to what lies in them."""

    def __init__(self, size: int, path: Path | None = None) -> None:
        self._fd = -1
        if path is None:
            self.view = memoryview(bytearray(size))
            return
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Whoever is first makes it; to the others it has that size already.
        os.ftruncate(self._fd, size)
        self.view = memoryview(mmap.mmap(self._fd, size))

    @contextmanager
    def lock(self, start: int, length: int) -> Iterator[None]:
        """Nobody else has locked these bytes inside the block: hold it for microseconds."""
        if self._fd < 0:
            yield
            return
        fcntl.lockf(self._fd, fcntl.LOCK_EX, length, start)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, length, start)


@contextmanager
def directory() -> Iterator[Path]:
    """A directory for what is shared, this user's alone, in memory where there is such a thing."""
    place = RAM if os.access(RAM, os.W_OK) else None
    with TemporaryDirectory(prefix="gateway-", dir=place, ignore_cleanup_errors=True) as made:
        yield Path(made)


@dataclass(frozen=True, slots=True)
class Together:
    """One worker's place among `workers`, and where what they share lies."""

    directory: Path | None = None
    worker: int = 0
    workers: int = 1

    def memory(self, name: str, size: int) -> Memory:
        """The memory of this name; every worker asks for the same size."""
        return Memory(size, self.directory / name if self.directory is not None else None)
