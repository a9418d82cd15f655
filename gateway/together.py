"""
What the workers of one gateway have in common: memory by name, in a directory of their own.

    Together()                         one process: its memory is its own
    Together(directory, 1, 4)          the second of four; their supervisor made the directory

The memory is a mapped file, zero at first.  Its readers and writers agree on whose row is whose,
or take `Memory.lock`, which the kernel gives back when a process dies.

Supervisor and workers have the directory's `owned` open, locked, for as long as they live.  Where
nobody has, it was left by a supervisor that was killed, and the next one removes it.  A lock, not a
process number, says who lives: numbers come again, and another container has its own.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

RAM = Path("/dev/shm")  # noqa: S108 - a directory of a random name in it
PREFIX = "gateway-"
OWNED = "owned"


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


@dataclass(frozen=True, slots=True)
class Directory:
    """Where it is, and the descriptor that says that it is in use, for workers to inherit."""

    path: Path
    owned: int


@contextmanager
def directory() -> Iterator[Directory]:
    """A directory for what is shared, this user's alone, in memory where there is such a thing."""
    place = RAM if os.access(RAM, os.W_OK) else Path(gettempdir())
    sweep(place)
    with TemporaryDirectory(prefix=PREFIX, dir=place, ignore_cleanup_errors=True) as made:
        path = Path(made)
        new = path / f"{OWNED}.new"
        owned = os.open(new, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(owned, fcntl.LOCK_SH)
            new.rename(path / OWNED)  # nobody ever finds it unlocked while we live
            yield Directory(path, owned)
        finally:
            os.close(owned)


def sweep(place: Path) -> None:
    """Remove the directories of this user's gateways that nobody uses any more."""
    for path in place.glob(f"{PREFIX}*"):
        try:
            if path.lstat().st_uid != os.geteuid():
                continue
            owned = os.open(path / OWNED, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:  # it is being made, or somebody else removes it
            continue
        try:
            fcntl.flock(owned, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            pass  # somebody lives
        finally:
            os.close(owned)


@dataclass(frozen=True, slots=True)
class Together:
    """One worker's place among `workers`, and where what they share lies."""

    directory: Path | None = None
    worker: int = 0
    workers: int = 1

    def memory(self, name: str, size: int) -> Memory:
        """The memory of this name; every worker asks for the same size."""
        return Memory(size, self.directory / name if self.directory is not None else None)
