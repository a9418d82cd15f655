"""
Where every route stands, in a file that all workers share, and that a restart finds again.

    change(name, standing)     in force here at once
    refresh()                  that is written, unless a newer one is there; what others wrote, read

Standings are compared by their `revision`: the higher is newer, and of two alike the one in the
file was first.  Writing happens under a lock beside the file, whole and by a rename, so that a
reader sees one state or the next; a file that cannot be read or written changes nothing here and
is said once.  Whoever shares the file shares the standings: the workers of a gateway, and gateways
beside each other on one machine that are told the same file.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from gateway.strangler.plan import Standing

log = logging.getLogger(__name__)

# What tells one writing of the file from the next; None where there is no file.
Signature = tuple[int, ...] | None
Seen = tuple[Signature, dict[str, Standing]]
# How long another's writing is waited for; somebody stopped in the middle must not stop us.
LOCK_SECONDS = 1.0
_decoder = msgspec.json.Decoder(dict[str, Standing])


class BookError(Exception):
    """The file cannot be kept there; the message names it."""


class Book:
    """The standings by route; `path` None keeps them in this process alone."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.standings: dict[str, Standing] = {}
        self._signature: Signature = None
        self._said = ""
        # What has changed here and is not in the file yet.
        self._unwritten: set[str] = set()

    def open(self) -> None:
        """Read what is there; BookError when the file could not be kept."""
        if self.path is None:
            return
        try:
            with _locked(self.path):
                self._adopt(_look(self.path))
        except OSError as error:
            raise BookError(f"{self.path}: {error.strerror or error}") from error
        except msgspec.MsgspecError as error:
            raise BookError(f"{self.path}: {error}") from error

    def change(self, name: str, standing: Standing) -> None:
        """Put a standing in force here; `refresh` writes it."""
        self.standings[name] = standing
        self._unwritten.add(name)

    @property
    def settled(self) -> bool:
        """Whether everything that changed here is in the file."""
        return not self._unwritten

    async def refresh(self) -> bool:
        """Take over what others wrote and write what changed here; whether anything is new."""
        if self.path is None:
            self._unwritten.clear()
            return False
        try:
            if self._unwritten:
                found = await asyncio.to_thread(self._merge, self.path, self._pending())
            elif await asyncio.to_thread(_signature, self.path) != self._signature:
                found = await asyncio.to_thread(_look, self.path)
            else:
                return False
        except (OSError, msgspec.MsgspecError) as error:
            self._say(f"{self.path}: {error}")
            return False
        self._said = ""
        return self._adopt(found)

    def _pending(self) -> dict[str, Standing]:
        pending = {name: self.standings[name] for name in self._unwritten}
        self._unwritten = set()
        return pending

    def _merge(self, path: Path, pending: dict[str, Standing]) -> Seen:
        """Write what is newer than the file's, and return what the file holds then."""
        try:
            with _locked(path):
                _, kept = _look(path)
                newer = {
                    name: standing
                    for name, standing in pending.items()
                    if name not in kept or kept[name].revision < standing.revision
                }
                if newer:
                    _write(path, kept | newer)
                return _look(path)
        except BaseException:
            self._unwritten |= pending.keys()
            raise

    def _adopt(self, seen: Seen) -> bool:
        before = dict(self.standings)
        self._signature, found = seen
        for name, standing in found.items():
            own = self.standings.get(name)
            if name not in self._unwritten and (own is None or own.revision <= standing.revision):
                self.standings[name] = standing
        return before != self.standings

    def _say(self, message: str) -> None:
        if message != self._said:
            self._said = message
            log.error("the strangler's state is not kept: %s", message)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _lock(lock)
        yield
    finally:
        os.close(lock)


def _lock(lock: int) -> None:
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(0.005)


def _look(path: Path) -> Seen:
    """What the file holds, and the signature that it had before it was read."""
    signature = _signature(path)
    try:
        return signature, _decoder.decode(path.read_bytes())
    except FileNotFoundError:
        return None, {}


def _write(path: Path, standings: dict[str, Standing]) -> None:
    beside = path.with_name(f"{path.name}.new")
    with beside.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(standings), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)
