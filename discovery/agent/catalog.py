"""
The catalog: nodes, services and checks, with Consul's indexes and who waits on which.

Every write takes the next index and stamps the tables and services it touched; a reader asks for
the index of a *topic* ("nodes", "services", "checks", "service:<name>") and may wait for it to
grow.  As in Consul, a service has an index of its own, so that a change of one wakes no watcher of
another, and a service nobody registered has the index of the last extinction or of the tables.

Pure but for the wake-up calls: no clock, no I/O.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager

from discovery.agent.go import Refused
from discovery.agent.records import CheckRecord, NodeRecord, ServiceRecord, size

MAX_BYTES = 256 * 1024 * 1024
Record = NodeRecord | ServiceRecord | CheckRecord

Wake = Callable[[], None]
# A check that turned critical or went away, by node and id.
Fell = Callable[[str, str], None]


class Catalog:
    """All that is registered; `waiters` maps a topic to the wake-up calls of blocked queries."""

    def __init__(self) -> None:
        self.index = 0
        self.nodes: dict[str, NodeRecord] = {}
        self.services: dict[tuple[str, str], ServiceRecord] = {}
        self.checks: dict[tuple[str, str], CheckRecord] = {}
        self.waiters: defaultdict[str, set[Wake]] = defaultdict(set)
        self.fell: list[Fell] = []  # told within the write, so at its index
        self._names: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        self._checks_of: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._indexes: dict[str, int] = {}
        self._last_extinction = 0
        self._bytes = 0
        self._batch: set[str] | None = None

    # reading

    def index_of(self, *topics: str) -> int:
        return max((self._indexes.get(topic, 0) for topic in topics), default=0)

    def service_index(self, name: str, *, checks: bool) -> int:
        """The index of a service, of one that never was, or of the last that went away."""
        topic = f"service:{name}"
        if self._last_extinction and name not in self._names:
            return self._last_extinction
        if topic in self._indexes:  # of one that was renamed too
            return self._indexes[topic]
        return self.index_of("nodes", "services", *(["checks"] if checks else []))

    def instances(self, name: str) -> list[ServiceRecord]:
        return [self.services[key] for key in sorted(self._names.get(name, ()))]

    def checks_of(self, node: str, service_id: str) -> list[CheckRecord]:
        """The checks of one service, or of the node itself when `service_id` is empty."""
        ids = sorted(self._checks_of.get((node, service_id), ()))
        return [self.checks[node, id_] for id_ in ids]

    def tags(self, nodes: Container[str]) -> dict[str, list[str]]:
        """Name to sorted tags of all services on these nodes."""
        tags: dict[str, set[str]] = {}
        for record in self.services.values():
            if record.node not in nodes:
                continue
            tags.setdefault(record.name, set()).update(record.tags or ())
        return {name: sorted(tags[name]) for name in sorted(tags)}

    # writing

    @contextmanager
    def batch(self) -> Iterator[Callable[[], None]]:
        """
        All writes in the block have one index and are seen together, as one Raft entry is.

        What it yields forgets that they were made, for who has taken them back.
        """
        if self._batch is not None:
            yield self._batch.clear
            return
        self._batch = set()
        before = self.index
        self.index += 1
        try:
            yield self._batch.clear
        finally:
            touched, self._batch = self._batch, None
            if touched:
                self.wake(*touched)
            else:
                self.index = before

    def put_node(self, record: NodeRecord) -> None:
        old = self.nodes.get(record.name)
        if old is not None:
            record.created, record.modified = old.created, old.modified
            if record == old:
                return
        self._bounded(record, old)
        index = self.advance()
        record.created = record.created or index
        record.modified = index
        self.nodes[record.name] = record
        self.touch("nodes", *self._services_on(record.name))

    def put_service(self, record: ServiceRecord) -> None:
        key = (record.node, record.id)
        old = self.services.get(key)
        if old is not None and old.content() == record.content():
            return
        self._bounded(record, old)
        index = self.advance()
        if old is not None and old.name != record.name:
            self._forget_name(key, old.name)
        record.created = old.created if old is not None else index
        record.modified = index
        self.services[key] = record
        self._names[record.name].add(key)
        self.touch("services", f"service:{record.name}")

    def put_check(self, record: CheckRecord) -> None:
        """
        Add a check, or change what it says.

        One that says the same is no change of its service, yet moves the table's index, as there.
        """
        key = (record.node, record.id)
        service = self.services.get((record.node, record.service_id))
        if service is not None:
            record.service_name, record.service_tags = service.name, service.tags
        old = self.checks.get(key)
        if old is not None:
            record.created, record.modified = old.created, old.modified
            if record == old:
                self.advance()
                self.touch("checks")
                return
        self._bounded(record, old)
        if old is not None:
            self._checks_of[record.node, old.service_id].discard(record.id)
        index = self.advance()
        record.created = record.created or index
        record.modified = index
        self.checks[key] = record
        self._checks_of[record.node, record.service_id].add(record.id)
        self.touch("checks", *self._services_of(record))
        if record.status == "critical":
            self._tell(record.node, record.id)

    def remove_service(self, node: str, service_id: str) -> bool:
        key = (node, service_id)
        record = self.services.pop(key, None)
        if record is None:
            return False
        self._bytes -= size(record)
        index = self.advance()
        # The table of checks moves even where there was none, as there.
        topics = {"services", f"service:{record.name}", "checks"}
        for check_id in self._checks_of.pop(key, set()):
            check = self.checks.pop((node, check_id))
            self._bytes -= size(check)
            # The name that its service had when the check was made.
            topics.add(f"service:{check.service_name}")
            self._tell(node, check_id)
        self._forget_name(key, record.name)
        self.touch(*topics)
        if record.name not in self._names:
            del self._indexes[f"service:{record.name}"]
            self._last_extinction = index
        return True

    def remove_check(self, node: str, check_id: str) -> bool:
        record = self.checks.pop((node, check_id), None)
        if record is None:
            return False
        self._bytes -= size(record)
        self.advance()
        self._checks_of[node, record.service_id].discard(check_id)
        # A check of the node itself takes the table of services with it, as there.
        table = () if record.service_id else ("services",)
        self.touch("checks", *table, *self._services_of(record))
        self._tell(node, check_id)
        return True

    def remove_node(self, name: str) -> bool:
        if name not in self.nodes:
            return False
        for owner, service_id in [key for key in self.services if key[0] == name]:
            self.remove_service(owner, service_id)
        for owner, check_id in [key for key in self.checks if key[0] == name]:
            self.remove_check(owner, check_id)
        self.advance()
        self._bytes -= size(self.nodes.pop(name))
        self.touch("nodes")
        return True

    def copy(self) -> tuple[object, ...]:
        """All there is, to come back to by `restore`; records are replaced, never changed."""
        return (
            dict(self.nodes),
            dict(self.services),
            dict(self.checks),
            dict(self._indexes),
            {name: set(keys) for name, keys in self._names.items()},
            {key: set(ids) for key, ids in self._checks_of.items()},
            self._last_extinction,
            self._bytes,
        )

    def restore(self, copy: tuple[object, ...]) -> None:
        nodes, services, checks, indexes, names, checks_of, extinction, bytes_ = copy
        self.nodes, self.services, self.checks = nodes, services, checks  # type: ignore[assignment]
        self._indexes = indexes  # type: ignore[assignment]
        self._names = defaultdict(set, names)  # type: ignore[call-overload]
        self._checks_of = defaultdict(set, checks_of)  # type: ignore[call-overload]
        self._last_extinction, self._bytes = extinction, bytes_  # type: ignore[assignment]

    def advance(self) -> int:
        """The index of the write that is being made; every write takes one."""
        if self._batch is None:
            self.index += 1
        return self.index

    def touch(self, *topics: str) -> None:
        """Stamp the topics with the newest index and wake who waits on them."""
        for topic in topics:
            self._indexes[topic] = self.index
        self.woken(*topics)

    def woken(self, *topics: str) -> None:
        """Wake who waits on these topics, once the batch that this is part of is done."""
        if self._batch is None:
            self.wake(*topics)
        else:
            self._batch.update(topics)

    def wake(self, *topics: str) -> None:
        """Let who waits on these topics look again."""
        for topic in topics:
            for wake in self.waiters.get(topic, ()):
                wake()

    def _bounded(self, record: Record, old: Record | None) -> None:
        """Refuses what would not fit; of a check that is there, what it found always does."""
        grown = self._bytes + size(record) - (0 if old is None else size(old))
        if grown > MAX_BYTES and (old is None or not isinstance(record, CheckRecord)):
            raise Refused(500, f"this development agent's catalog has room for {MAX_BYTES} bytes")
        self._bytes = grown

    def _tell(self, node: str, check_id: str) -> None:
        for fell in self.fell:
            fell(node, check_id)

    def _forget_name(self, key: tuple[str, str], name: str) -> None:
        self._names[name].discard(key)
        if not self._names[name]:
            del self._names[name]

    def _services_on(self, node: str) -> Iterable[str]:
        return {f"service:{record.name}" for key, record in self.services.items() if key[0] == node}

    def _services_of(self, record: CheckRecord) -> Iterable[str]:
        """Whose health a check decides: one service's, or that of all on its node."""
        if record.service_id:
            return (f"service:{record.service_name}",)
        return self._services_on(record.node)
