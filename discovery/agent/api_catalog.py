"""
/v1/catalog, /v1/health and /v1/status: what the cluster knows, all of it by blocking queries.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiohttp import web

from discovery.agent import records
from discovery.agent.blocking import Blocking, answer
from discovery.agent.catalog import Catalog
from discovery.agent.definition import Refused, decode
from discovery.agent.records import CheckRecord, NodeRecord, ServiceRecord


class CatalogApi:
    """The read side of the catalog, and registration of nodes that run no agent."""

    def __init__(self, catalog: Catalog, blocking: Blocking, leader: str) -> None:
        self._catalog = catalog
        self._blocking = blocking
        self._leader = leader

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/status/leader", self.leader),
            web.get("/v1/status/peers", self.peers),
            web.get("/v1/catalog/datacenters", self.datacenters),
            web.get("/v1/catalog/services", self.services),
            web.get("/v1/catalog/service/{name:.*}", self.service),
            web.get("/v1/catalog/nodes", self.nodes),
            web.get("/v1/catalog/node/{name}", self.node),
            web.put("/v1/catalog/register", self.register),
            web.put("/v1/catalog/deregister", self.deregister),
            web.get("/v1/health/service/{name:.*}", self.health),
            web.get("/v1/health/checks/{name}", self.checks),
            web.get("/v1/health/state/{status}", self.state),
            web.get("/v1/health/node/{name}", self.node_checks),
        ]

    async def leader(self, request: web.Request) -> web.Response:
        return answer(request, self._leader)

    async def peers(self, request: web.Request) -> web.Response:
        return answer(request, [self._leader])

    async def datacenters(self, request: web.Request) -> web.Response:
        return answer(request, ["dc1"])

    async def services(self, request: web.Request) -> web.Response:
        catalog = self._catalog

        def read() -> tuple[int, Any]:
            return catalog.index_of("services"), catalog.tags()

        return await self._blocking.query(request, ["services"], read)

    async def nodes(self, request: web.Request) -> web.Response:
        catalog = self._catalog

        def read() -> tuple[int, Any]:
            found = sorted(catalog.nodes.values(), key=lambda record: record.name)
            return catalog.index_of("nodes"), [records.node(record) for record in found]

        return await self._blocking.query(request, ["nodes"], read)

    async def node(self, request: web.Request) -> web.Response:
        catalog, name = self._catalog, request.match_info["name"]

        def read() -> tuple[int, Any]:
            index = catalog.index_of("nodes", "services")
            owner = catalog.nodes.get(name)
            if owner is None:
                return index, None
            found = {
                service.id: records.health_service(service)
                for key, service in sorted(catalog.services.items())
                if key[0] == name
            }
            return index, {"Node": records.node(owner), "Services": found}

        return await self._blocking.query(request, ["nodes", "services"], read)

    async def service(self, request: web.Request) -> web.Response:
        catalog, name = self._catalog, _name(request)
        tags = request.query.getall("tag", [])

        def read() -> tuple[int, Any]:
            found = [
                records.catalog_service(record, catalog.nodes[record.node])
                for record in catalog.instances(name)
                if _tagged(record, tags)
            ]
            return catalog.service_index(name, checks=False), found

        return await self._blocking.query(request, [f"service:{name}"], read)

    async def health(self, request: web.Request) -> web.Response:
        catalog, name = self._catalog, _name(request)
        tags = request.query.getall("tag", [])
        passing = _truth(request, "passing")

        def read() -> tuple[int, Any]:
            found = []
            for record in catalog.instances(name):
                checks = self._decisive(record)
                if _tagged(record, tags) and not (passing and records.worst(checks) != "passing"):
                    found.append(
                        {
                            "Node": records.node(catalog.nodes[record.node]),
                            "Service": records.health_service(record),
                            "Checks": [records.check(check) for check in checks],
                        }
                    )
            return catalog.service_index(name, checks=True), found

        return await self._blocking.query(request, [f"service:{name}"], read)

    async def checks(self, request: web.Request) -> web.Response:
        catalog, name = self._catalog, request.match_info["name"]

        def read() -> tuple[int, Any]:
            # By the name each check was given, which a renamed service leaves behind.
            found = [one for _, one in sorted(catalog.checks.items()) if one.service_name == name]
            return catalog.service_index(name, checks=True), [records.check(one) for one in found]

        return await self._blocking.query(request, [f"service:{name}"], read)

    async def state(self, request: web.Request) -> web.Response:
        catalog, status = self._catalog, request.match_info["status"]

        def read() -> tuple[int, Any]:
            found = [
                records.check(record)
                for _, record in sorted(catalog.checks.items())
                if status in ("any", record.status)
            ]
            return catalog.index_of("checks"), found

        return await self._blocking.query(request, ["checks"], read)

    async def node_checks(self, request: web.Request) -> web.Response:
        catalog, name = self._catalog, request.match_info["name"]

        def read() -> tuple[int, Any]:
            found = [
                records.check(record)
                for key, record in sorted(catalog.checks.items())
                if key[0] == name
            ]
            return catalog.index_of("checks"), found

        return await self._blocking.query(request, ["checks"], read)

    async def register(self, request: web.Request) -> web.Response:
        """A node that runs no agent, with at most one service and any checks."""
        body = decode(await request.read())
        name, address = body.get("Node", ""), body.get("Address", "")
        if not name:
            raise Refused(500, "Must provide node")
        if not address and not body.get("SkipNodeUpdate"):
            raise Refused(500, "Must provide address if SkipNodeUpdate is not set")
        catalog = self._catalog
        try:
            known = catalog.nodes.get(name)
            if known is None or not body.get("SkipNodeUpdate"):
                catalog.put_node(
                    NodeRecord(
                        name,
                        address,
                        body.get("ID") or (known.id if known is not None else ""),
                        tagged_addresses=body.get("TaggedAddresses") or {},
                        meta=body.get("NodeMeta") or {},
                    )
                )
            asked = body.get("Service")
            if asked:
                weights = asked.get("Weights") or {}
                catalog.put_service(
                    ServiceRecord(
                        name,
                        asked.get("ID") or asked["Service"],
                        asked["Service"],
                        asked.get("Address") or "",
                        asked.get("Port") or 0,
                        asked.get("Tags"),
                        asked.get("Meta") or {},
                        weights.get("Passing", 1),
                        weights.get("Warning", 1),
                    )
                )
            for check in [*(body.get("Checks") or []), *filter(None, [body.get("Check")])]:
                self._put_check(name, check)
        except (KeyError, TypeError, AttributeError) as error:
            raise Refused(400, f"Request decode failed: {error}") from error
        return answer(request, True)

    def _put_check(self, node: str, check: dict[str, Any]) -> None:
        service = self._catalog.services.get((node, check.get("ServiceID") or ""))
        self._catalog.put_check(
            CheckRecord(
                node,
                check.get("CheckID") or check["Name"],
                check.get("Name") or check["CheckID"],
                check.get("Status") or "critical",
                check.get("Notes") or "",
                check.get("Output") or "",
                service_id="" if service is None else service.id,
                service_name="" if service is None else service.name,
                service_tags=None if service is None else service.tags,
            )
        )

    async def deregister(self, request: web.Request) -> web.Response:
        body = decode(await request.read())
        name = body.get("Node", "")
        if not name:
            raise Refused(500, "Must provide node")
        if body.get("ServiceID"):
            self._catalog.remove_service(name, body["ServiceID"])
        elif body.get("CheckID"):
            self._catalog.remove_check(name, body["CheckID"])
        else:
            self._catalog.remove_node(name)
        return answer(request, True)

    def _decisive(self, record: ServiceRecord) -> list[CheckRecord]:
        """The node's checks and the service's own: what its health is made of."""
        catalog = self._catalog
        return catalog.checks_of(record.node, "") + catalog.checks_of(record.node, record.id)


def _name(request: web.Request) -> str:
    name = request.match_info["name"]
    if not name:
        raise Refused(400, "Missing service name")
    return name


def _tagged(record: ServiceRecord, tags: Iterable[str]) -> bool:
    have = {tag.lower() for tag in record.tags or ()}
    return all(tag.lower() in have for tag in tags)


def _truth(request: web.Request, name: str) -> bool:
    """?passing and ?passing=1 are true, ?passing=0 is not."""
    value = request.query.get(name)
    if value is None:
        return False
    if value in ("", "1", "t", "T", "TRUE", "true", "True"):
        return True
    if value in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise Refused(400, f"Invalid value for ?{name}")
