"""
The key-value store: values with flags and indexes, deletions remembered for who watches them.

Keys share the catalog's index, so that one number orders everything the agent does.  A deleted key
leaves a tombstone, as in Consul: a watch of its prefix sees the index go on, not back.  Both are
bounded, the values by size and the tombstones by number.
"""

from __future__ import annotations

from dataclasses import dataclass

from discovery.agent.catalog import Catalog
from discovery.agent.definition import Refused

MAX_VALUE = 512 * 1024
MAX_TOTAL = 64 * 1024 * 1024
MAX_TOMBSTONES = 10_000


@dataclass(slots=True)
class Entry:
    key: str
    value: bytes
    flags: int
    created: int
    modified: int


class KeyValues:
    """Topics are "kv:<key>" for one key and "kv/<prefix>" for all below a prefix."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._entries: dict[str, Entry] = {}
        self._tombstones: dict[str, int] = {}
        self._index = 0
        self._size = 0

    def get(self, key: str) -> tuple[int, Entry | None]:
        entry = self._entries.get(key)
        return (entry.modified if entry is not None else self._index), entry

    def below(self, prefix: str) -> tuple[int, list[Entry]]:
        """All entries whose key starts with `prefix`, and the index of the newest change there."""
        found = [self._entries[key] for key in sorted(self._entries) if key.startswith(prefix)]
        newest = max((entry.modified for entry in found), default=0)
        deleted = max(
            (index for key, index in self._tombstones.items() if key.startswith(prefix)), default=0
        )
        return max(newest, deleted) or self._index, found

    def put(self, key: str, value: bytes, flags: int, *, compared: int | None = None) -> bool:
        """Set a value; with `compared` only if that is its index, 0 for "not there"."""
        old = self._entries.get(key)
        if compared is not None and compared != (old.modified if old is not None else 0):
            return False
        if len(value) > MAX_VALUE:
            raise Refused(
                413,
                f"Request body({len(value)} bytes) too large, max size: {MAX_VALUE} bytes."
                " See https://www.consul.io/docs/agent/options.html#kv_max_value_size.",
            )
        size = self._size + len(value) - (len(old.value) if old is not None else 0)
        if size > MAX_TOTAL:
            raise Refused(500, f"this development agent keeps no more than {MAX_TOTAL} bytes")
        if old is not None and (old.value, old.flags) == (value, flags):
            return True
        index = self._catalog.advance()
        created = old.created if old is not None else index
        self._entries[key] = Entry(key, value, flags, created, index)
        self._size = size
        self._changed(key)
        return True

    def delete(self, key: str, *, compared: int | None = None) -> bool:
        old = self._entries.get(key)
        if compared is not None and old is not None and compared != old.modified:
            return False
        if old is not None:
            self._catalog.advance()
            self._remove(old)
        return True

    def delete_below(self, prefix: str) -> None:
        doomed = [entry for key, entry in self._entries.items() if key.startswith(prefix)]
        if doomed:
            self._catalog.advance()
        for entry in doomed:
            self._remove(entry)

    def _remove(self, entry: Entry) -> None:
        del self._entries[entry.key]
        self._size -= len(entry.value)
        self._tombstones.pop(entry.key, None)
        self._tombstones[entry.key] = self._catalog.index
        while len(self._tombstones) > MAX_TOMBSTONES:
            del self._tombstones[next(iter(self._tombstones))]
        self._changed(entry.key)

    def _changed(self, key: str) -> None:
        self._index = self._catalog.index
        above = [
            topic
            for topic in self._catalog.waiters
            if topic.startswith("kv/") and key.startswith(topic[3:])
        ]
        self._catalog.wake(f"kv:{key}", *above)
