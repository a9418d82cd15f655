"""
The key-value store in a file: read at the start, written a moment after each change.

A file is written beside and renamed over, so that a crash leaves the old one or the new one.  One
that cannot be read stops the agent with its name: silently beginning anew would lose it.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
from pathlib import Path

import msgspec

from discovery.agent.kv import Entry, KeyValues

LOG = logging.getLogger(__name__)

FILE = "kv.json"
DELAY_SECONDS = 0.2


class Kept(msgspec.Struct):
    """One key in the file; the value is base64."""

    key: str
    value: str
    flags: int = 0


class StateError(Exception):
    """The state directory cannot be used; the text names the file and the reason."""


class Keeping:
    """Keeps `values` in `directory`; `load` once, then `run` until cancelled, then `save`."""

    def __init__(self, values: KeyValues, directory: Path) -> None:
        self._values = values
        self._file = directory / FILE
        self._changed = asyncio.Event()
        values.changed = self._changed.set

    def load(self) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            body = self._file.read_bytes()
            kept = msgspec.json.decode(body, type=list[Kept])
            found = [Entry(one.key, base64.b64decode(one.value), one.flags) for one in kept]
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:  # msgspec's and base64's errors are ValueErrors
            raise StateError(f"state in {str(self._file)!r}: {error}") from error
        self._values.load(found)
        self._changed.clear()

    async def run(self) -> None:
        """A burst of changes is one write."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(DELAY_SECONDS)
            self.save()

    def save(self) -> None:
        """Write what has changed; a disk that is full is told and tried again."""
        if not self._changed.is_set():
            return
        _, entries = self._values.below("")
        kept = [Kept(one.key, base64.b64encode(one.value).decode(), one.flags) for one in entries]
        beside = self._file.with_suffix(".new")
        try:
            with beside.open("wb") as file:
                file.write(msgspec.json.encode(kept))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._file)
        except OSError as error:
            LOG.warning("state in %s: %s", self._file, error)
        else:
            self._changed.clear()
