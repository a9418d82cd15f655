"""
A panel shared by a trial and one of its servers: how it shall behave, how many calls reached it.

It is a file mapped by both, so that the count can be read of a server that hangs or was killed.
"""

from __future__ import annotations

import mmap
import struct
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Self

COUNT = struct.Struct("<Q")
SIZE = COUNT.size + 1


class Mood(IntEnum):
    """What a server does with a call."""

    ANSWER = 0
    # UNAVAILABLE, at once.
    REFUSE = 1
    # Nothing, until the caller gives up.
    HANG = 2


class Panel:
    """One server's panel; only the server counts, only the trial sets the mood."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(SIZE))
        with path.open("r+b") as file:
            self._bytes = mmap.mmap(file.fileno(), SIZE)

    @property
    def reached(self) -> int:
        """How many calls reached the server, its former lives included."""
        return int(COUNT.unpack_from(self._bytes)[0])

    def count(self) -> None:
        """One more call has reached the server."""
        COUNT.pack_into(self._bytes, 0, self.reached + 1)

    @property
    def mood(self) -> Mood:
        return Mood(self._bytes[COUNT.size])

    @mood.setter
    def mood(self, mood: Mood) -> None:
        self._bytes[COUNT.size] = mood

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bytes.close()
