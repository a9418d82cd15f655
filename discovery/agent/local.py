"""
What is registered with this agent itself: the rules between the HTTP door and the catalog.

A service id is unique here; registering it again replaces it, keeps the status of checks that it
had (a live instance is not made healthy by registering) and, when asked, drops the others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace

from discovery.agent.catalog import Catalog
from discovery.agent.checks import REAP_SECONDS, Checks
from discovery.agent.definition import CheckDefinition, Refused, ServiceDefinition
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
        self.checks = Checks(self._report)
        # What a check last printed; the catalog learns it with the next change of status, since
        # texts that change would wake every watcher for nothing (Consul: CheckUpdateInterval).
        self._outputs: dict[str, str] = {}

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
                for old in self.catalog.checks_of(self.node, definition.id):
                    if old.id not in kept and old.kind != "maintenance":
                        self.remove_check(old.id)

    def deregister(self, service_id: str) -> None:
        for check in self.catalog.checks_of(self.node, service_id):
            self.checks.stop(check.id)
            self._outputs.pop(check.id, None)
        self.catalog.remove_service(self.node, service_id)

    def maintain_service(self, service_id: str, *, enable: bool, reason: str) -> None:
        record = self.service(service_id)
        if record is None:
            raise Refused(404, f'No service registered with ID "{service_id}"')
        check_id = f"_service_maintenance:{service_id}"
        if not enable:
            self.catalog.remove_check(self.node, check_id)
            return
        self.catalog.put_check(
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
            self.catalog.remove_check(self.node, "_node_maintenance")
            return
        self.catalog.put_check(
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
        found = self.catalog.checks
        return [
            self._with_output(found[key])
            for key in sorted(found)
            if key[0] == self.node and key[1] != "serfHealth"
        ]

    def checks_of(self, service_id: str) -> list[CheckRecord]:
        """What decides the health of a service here: the node's own checks and its own."""
        mine = ("", service_id)
        return [check for check in self.all_checks() if check.service_id in mine]

    def _with_output(self, record: CheckRecord) -> CheckRecord:
        output = self._outputs.get(record.id)
        return record if output is None else replace(record, output=output)

    def add_check(self, definition: CheckDefinition) -> None:
        name, tags = "", list[str]()
        if definition.service_id:
            service = self.service(definition.service_id)
            if service is None:
                raise Refused(500, f'ServiceID "{definition.service_id}" does not exist')
            name, tags = service.name, service.tags
        old = self.catalog.checks.get((self.node, definition.id))
        status, output = definition.status or "critical", ""
        if old is not None:
            status, output = old.status, old.output
        self.catalog.put_check(
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
        self._outputs.pop(check_id, None)
        self.catalog.remove_check(self.node, check_id)

    def heartbeat(self, check_id: str, status: str, output: str) -> None:
        """What a ttl check says of itself."""
        if not self.checks.beat(check_id):
            raise Refused(500, f'CheckID "{check_id}" does not have associated TTL')
        self._report(check_id, status, output)

    def _report(self, check_id: str, status: str, output: str) -> None:
        record = self.catalog.checks.get((self.node, check_id))
        if record is None:
            return
        self.checks.became(check_id, status)
        if len(output) > MAX_OUTPUT:
            output = output[:MAX_OUTPUT]
        self._outputs[check_id] = output
        if record.status != status:
            LOG.info("check %s is %s: %s", check_id, status, output)
            self.catalog.put_check(replace(record, status=status, output=output))

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
