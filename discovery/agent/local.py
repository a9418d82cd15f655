"""
What is registered with this agent itself: the rules between the HTTP door and the catalog.

A service id is unique here; registering it again replaces it, keeps the status of checks that it
had (a live instance is not made healthy by registering) and, when asked, drops the others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from dataclasses import replace

from discovery.agent.catalog import Catalog
from discovery.agent.checks import REAP_SECONDS, Checks
from discovery.agent.definition import CheckDefinition, ServiceDefinition
from discovery.agent.go import Refused
from discovery.agent.records import CheckRecord, ServiceRecord

LOG = logging.getLogger(__name__)

MAINTENANCE_REASON = (
    "Maintenance mode is enabled for this {}, but no reason was provided."
    " This is a default message."
)
MAX_OUTPUT = 4096


class Local:
    """The node's own services and checks."""

    def __init__(self, catalog: Catalog, node: str) -> None:
        self.catalog = catalog
        self.node = node
        self.checks = Checks(self._report, self._expire)
        # Our own view of each check.  The catalog learns a new text with the next change of
        # status: texts that change would wake every watcher for nothing (CheckUpdateInterval).
        self._mine: dict[str, CheckRecord] = {}
        self._of: defaultdict[str, set[str]] = defaultdict(set)

    # services

    def service(self, service_id: str) -> ServiceRecord | None:
        return self.catalog.services.get((self.node, service_id))

    def services(self) -> list[ServiceRecord]:
        """Without "consul", which is the server's own announcement in the catalog."""
        found = self.catalog.services
        return [found[key] for key in sorted(found) if key[0] == self.node and key[1] != "consul"]

    def register(self, definition: ServiceDefinition, *, replace_checks: bool) -> None:
        tagged = definition.tagged_addresses
        if not tagged and definition.address:
            here = {"Address": definition.address, "Port": definition.port}
            family = "ipv6" if ":" in definition.address else "ipv4"
            if definition.address.replace(".", "").isdigit() or family == "ipv6":
                tagged = {f"lan_{family}": here, f"wan_{family}": here}
        record = ServiceRecord(
            self.node,
            definition.id,
            definition.name,
            definition.address,
            definition.port,
            definition.tags,
            definition.meta,
            definition.passing_weight,
            definition.warning_weight,
            definition.tag_override,
            tagged,
        )
        with self.catalog.batch():
            self.catalog.put_service(record)
            kept = set()
            several = len(definition.checks) > 1
            for number, check in enumerate(definition.checks, 1):
                default = f"service:{definition.id}" + (f":{number}" if several else "")
                check.id = check.id or default
                check.name = check.name or f"Service '{definition.name}' check"
                check.service_id = definition.id
                kept.add(check.id)
                self.add_check(check)
            if replace_checks:
                for old in self._of_service(definition.id):
                    if old.id not in kept:
                        self.remove_check(old.id)

    def deregister(self, service_id: str) -> None:
        for check in self._of_service(service_id):
            self.checks.stop(check.id)
            self._drop(check.id)
        self.catalog.remove_service(self.node, service_id)

    def maintain_service(self, service_id: str, *, enable: bool, reason: str) -> None:
        record = self.service(service_id)
        if record is None:
            raise Refused(404, f'No service registered with ID "{service_id}"')
        check_id = f"_service_maintenance:{service_id}"
        if not enable:
            self.remove_check(check_id)
            return
        if check_id in self._mine:  # it stays as it began, reason and all
            return
        self._put(
            CheckRecord(
                self.node,
                check_id,
                "Service Maintenance Mode",
                "critical",
                reason or MAINTENANCE_REASON.format("service"),
                kind="maintenance",
                service_id=service_id,
                service_name=record.name,
                service_tags=record.tags,
            )
        )

    def maintain_node(self, *, enable: bool, reason: str) -> None:
        if not enable:
            self.remove_check("_node_maintenance")
            return
        if "_node_maintenance" in self._mine:
            return
        self._put(
            CheckRecord(
                self.node,
                "_node_maintenance",
                "Node Maintenance Mode",
                "critical",
                reason or MAINTENANCE_REASON.format("node"),
                kind="maintenance",
            )
        )

    # checks

    def all_checks(self) -> list[CheckRecord]:
        """Without serfHealth, which is the catalog's and not the agent's."""
        return [self._mine[check_id] for check_id in sorted(self._mine)]

    def checks_of(self, service_id: str) -> list[CheckRecord]:
        """What decides the health of a service here: the node's own checks and its own."""
        ids = self._of.get("", set()) | self._of.get(service_id, set())
        return [self._mine[check_id] for check_id in sorted(ids)]

    def _of_service(self, service_id: str) -> list[CheckRecord]:
        ids = self._of.get(service_id, ()) if service_id else ()
        return [self._mine[check_id] for check_id in sorted(ids)]

    def _keep(self, record: CheckRecord) -> None:
        self._drop(record.id)
        self._mine[record.id] = record
        self._of[record.service_id].add(record.id)

    def _drop(self, check_id: str) -> None:
        record = self._mine.pop(check_id, None)
        if record is not None:
            self._of[record.service_id].discard(check_id)
            if not self._of[record.service_id]:
                del self._of[record.service_id]

    def _put(self, record: CheckRecord) -> None:
        self._keep(record)
        self.catalog.put_check(replace(record))

    def add_check(self, definition: CheckDefinition) -> None:
        name: str = ""
        tags: list[str] | None = None
        if definition.service_id:
            service = self.service(definition.service_id)
            if service is None:
                raise Refused(500, f'ServiceID "{definition.service_id}" does not exist')
            name, tags = service.name, service.tags
        old = self._mine.get(definition.id)
        status, output = definition.status or "critical", ""
        if old is not None:
            status, output = old.status, old.output
        self._put(
            CheckRecord(
                self.node,
                definition.id,
                definition.name,
                status,
                definition.notes,
                output,
                definition.kind,
                definition.service_id,
                name,
                tags,
            )
        )
        self.checks.start(definition, status)

    def remove_check(self, check_id: str) -> None:
        self.checks.stop(check_id)
        self._drop(check_id)
        self.catalog.remove_check(self.node, check_id)

    def heartbeat(self, check_id: str, status: str, output: str) -> None:
        """What a ttl check says of itself."""
        if not self.checks.beat(check_id):
            raise Refused(500, f'CheckID "{check_id}" does not have associated TTL')
        self._report(check_id, status, _cut(output))

    def _report(self, check_id: str, status: str, output: str) -> None:
        record = self._mine.get(check_id)
        if record is None:
            return
        self.checks.became(check_id, status)
        found = replace(record, status=status, output=output)
        if record.status == status:
            self._keep(found)
        else:
            LOG.info("check %s is %s: %s", check_id, status, output)
            self._put(found)

    def _expire(self, check_id: str) -> None:
        """A ttl check was not heard of in time; what it said last is part of what is said of it."""
        record = self._mine.get(check_id)
        said = "TTL expired"
        if record is not None and record.output:
            said += f" (last output before timeout follows): {record.output}"
        self._report(check_id, "critical", said)

    async def reap(self) -> None:
        """Deregister for ever what has been critical longer than it asked for."""
        while True:
            await asyncio.sleep(REAP_SECONDS)
            for definition in self.checks.overdue(time.monotonic()):
                if definition.service_id:
                    LOG.info("%s was critical too long: deregistered", definition.service_id)
                    self.deregister(definition.service_id)
                else:
                    self.remove_check(definition.id)


def _cut(output: str) -> str:
    raw = output.encode()
    if len(raw) <= MAX_OUTPUT:
        return output
    kept = raw[:MAX_OUTPUT].decode(errors="replace")
    return f"{kept} ... (captured {MAX_OUTPUT} of {len(raw)} bytes)"
