"""
The key-value store: values with flags, indexes and locks; deletions remembered for who watches.

Keys share the catalog's index, so that one number orders everything the agent does.  A deleted key
leaves a tombstone, as in Consul: a watch of its prefix sees the index go on, not back.  Both are
bounded, the values by size and the tombstones by number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from discovery.agent.catalog import Catalog
from discovery.agent.go import Refused
from discovery.agent.sessions import Session, Sessions

MAX_VALUE = 512 * 1024
MAX_TOTAL = 64 * 1024 * 1024
MAX_TOMBSTONES = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    key: str
    value: bytes = b""
    flags: int = 0
    session: str = ""
    lock_index: int = 0
    created: int = 0
    modified: int = 0

    def content(self) -> tuple[object, ...]:
        """What makes a write a change when it differs."""
        return (self.value, self.flags, self.session, self.lock_index)


class KeyValues:
    """Topics are "kv:<key>" for one key and "kv/<prefix>" for all below a prefix."""

    def __init__(self, catalog: Catalog, sessions: Sessions, now: Callable[[], float]) -> None:
        self._catalog = catalog
        self._sessions = sessions
        self._now = now
        self._entries: dict[str, Entry] = {}
        self._tombstones: dict[str, int] = {}
        self._delays: dict[str, float] = {}
        self._held: dict[str, set[str]] = {}
        self._index = 0
        self._size = 0
        self.changed: Callable[[], None] = lambda: None
        sessions.ended = self._release

    # reading

    def get(self, key: str) -> tuple[int, Entry | None]:
        entry = self._entries.get(key)
        return (entry.modified if entry is not None else self._index), entry

    def below(self, prefix: str) -> tuple[int, list[Entry]]:
        """All entries whose key starts with `prefix`, and the index of the newest change there."""
        found = [self._entries[key] for key in sorted(self._entries) if key.startswith(prefix)]
        if not prefix:
            return self._index, found
        newest = max((entry.modified for entry in found), default=0)
        deleted = max(
            (index for key, index in self._tombstones.items() if key.startswith(prefix)), default=0
        )
        return max(newest, deleted) or self._index, found

    def delayed(self, key: str) -> bool:
        """Whether the key's last lock was lost so lately that nobody may lock it."""
        until = self._delays.get(key)
        if until is None:
            return False
        if self._now() < until:
            return True
        del self._delays[key]
        return False

    # writing; each returns whether it was done

    def put(self, key: str, value: bytes, flags: int, *, compared: int | None = None) -> bool:
        """Set a value; with `compared` only if that is its index, 0 for "not there"."""
        old = self._entries.get(key)
        if compared is not None and compared != (old.modified if old is not None else 0):
            return False
        self._set(Entry(key, value, flags, old.session if old is not None else ""))
        return True

    def lock(self, key: str, value: bytes, flags: int, session_id: str) -> bool:
        if not session_id:
            raise Refused(500, "missing session")
        if self._sessions.find(session_id) is None:
            raise Refused(500, f'invalid session "{session_id}"')
        old = self._entries.get(key)
        if old is not None and old.session not in ("", session_id):
            return False
        locks = old.lock_index if old is not None else 0
        if old is None or not old.session:
            locks += 1
        self._set(Entry(key, value, flags, session_id, locks))
        return True

    def unlock(self, key: str, value: bytes, flags: int, session_id: str) -> bool:
        if not session_id:
            raise Refused(500, "missing session")
        old = self._entries.get(key)
        if old is None or old.session != session_id:
            return False
        self._set(Entry(key, value, flags, "", old.lock_index))
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
        """One tombstone stands for all of them, as there; none for the whole store."""
        doomed = [entry for key, entry in self._entries.items() if key.startswith(prefix)]
        if doomed:
            self._catalog.advance()
        for entry in doomed:
            self._remove(entry, buried=False)
        if doomed and prefix:
            self._bury(prefix)

    # a transaction that fails, and a file that is read

    def copy(self) -> tuple[object, ...]:
        """All there is, to come back to by `restore`."""
        held = {session: set(keys) for session, keys in self._held.items()}
        return (dict(self._entries), dict(self._tombstones), held, self._index, self._size)

    def restore(self, copy: tuple[object, ...]) -> None:
        self._entries, self._tombstones, self._held, self._index, self._size = copy  # type: ignore[assignment]

    def load(self, entries: list[Entry]) -> None:
        """What was kept of an earlier life; indexes begin anew, and no lock outlived it."""
        for entry in entries:
            self._set(replace(entry, session="", lock_index=0))

    def _set(self, entry: Entry) -> None:
        """Write an entry unless nothing but its indexes would change."""
        old = self._entries.get(entry.key)
        if old is not None and old.content() == entry.content():
            return
        self._bounded(entry, old)
        index = self._catalog.advance()
        created = old.created if old is not None else index
        self._entries[entry.key] = replace(entry, created=created, modified=index)
        self._holds(old, entry)
        self._touch(entry.key)

    def _bounded(self, entry: Entry, old: Entry | None) -> None:
        if len(entry.value) > MAX_VALUE:
            raise Refused(
                413,
                f"Request body({len(entry.value)} bytes) too large, max size: {MAX_VALUE} bytes."
                " See https://www.consul.io/docs/agent/options.html#kv_max_value_size.",
            )
        size = self._size + len(entry.value) + len(entry.key)
        if old is not None:
            size -= len(old.value) + len(old.key)
        if size > MAX_TOTAL:
            raise Refused(500, f"this development agent keeps no more than {MAX_TOTAL} bytes")
        self._size = size

    def _holds(self, old: Entry | None, new: Entry | None) -> None:
        for entry, holding in ((old, False), (new, True)):
            if entry is None or not entry.session:
                continue
            keys = self._held.setdefault(entry.session, set())
            (keys.add if holding else keys.discard)(entry.key)
            if not keys:
                del self._held[entry.session]

    def _remove(self, entry: Entry, *, buried: bool = True) -> None:
        del self._entries[entry.key]
        self._holds(entry, None)
        self._size -= len(entry.value) + len(entry.key)
        if buried:
            self._bury(entry.key)
        self._touch(entry.key)

    def _bury(self, key: str) -> None:
        self._tombstones.pop(key, None)
        self._tombstones[key] = self._catalog.index
        while len(self._tombstones) > MAX_TOMBSTONES:
            del self._tombstones[next(iter(self._tombstones))]

    def _release(self, session: Session) -> None:
        """A session ended: its keys go with it or stay unlocked, and wait for its lock delay."""
        for key in sorted(self._held.get(session.id, ())):
            entry = self._entries[key]
            if session.behavior == "delete":
                self._remove(entry)
            else:
                index = self._catalog.index
                self._entries[key] = replace(entry, session="", modified=index)
                self._touch(key)
            if session.delay_seconds > 0:
                self._delays[key] = self._now() + session.delay_seconds
        self._held.pop(session.id, None)

    def _touch(self, key: str) -> None:
        self._index = self._catalog.index
        above = [
            topic
            for topic in self._catalog.waiters
            if topic.startswith("kv/") and key.startswith(topic[3:])
        ]
        self._catalog.woken(f"kv:{key}", *above)
        self.changed()
