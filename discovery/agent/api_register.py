"""
/v1/catalog/register and deregister: nodes that run no agent, and what is on them.
"""

from __future__ import annotations

from typing import Any

from discovery.agent import entries, go
from discovery.agent.blocking import answer, elsewhere, here
from discovery.agent.catalog import Catalog
from discovery.agent.door import Routes
from discovery.agent.entries import check_of, kind_of, node_of, service_of
from discovery.agent.go import Refused
from discovery.agent.records import NodeRecord, ServiceRecord
from discovery.agent.wire import Request, Response

Json = dict[str, Any]


class RegisterApi:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def routes(self) -> Routes:
        return {
            "/v1/catalog/register": {"PUT": self.register},
            "/v1/catalog/deregister": {"PUT": self.deregister},
        }

    def register(self, request: Request) -> Response:
        """A node, with at most one service and any checks; one write, one index."""
        type_ = "RegisterRequest"
        found = go.decode(request.body, f"structs.{type_}")
        body = go.fields(found, entries.REGISTRATION, owner=type_, strict=True)
        owner = "NodeService.Service"
        asked = go.fields(body.get("Service", {}), entries.SERVICE, owner=owner, strict=True)
        said = [("Checks", one) for one in body.get("Checks", [])]
        said += [("Check", body["Check"])] if "Check" in body else []
        checks = [
            go.fields(one, entries.CHECK, owner=f"HealthCheck.{field}", strict=True)
            for field, one in said
        ]
        here(request)
        elsewhere(body.get("Datacenter", ""))
        name, address = body.get("Node", ""), body.get("Address", "")
        if not name:
            raise Refused(500, "Must provide node")
        if not address and not body.get("SkipNodeUpdate"):
            raise Refused(500, "Must provide address if SkipNodeUpdate is not set")
        catalog = self._catalog
        known = catalog.nodes.get(name)
        node = node_of(body | {"Meta": body.get("NodeMeta", {})}, known)
        service = service_of(name, asked, owner) if "Service" in body else None
        self._vet(name, service, checks)
        with catalog.batch():
            if known is None or not body.get("SkipNodeUpdate"):
                self._put_node(node)
            if service is not None:
                catalog.put_service(service)
            for one in checks:
                check = check_of(catalog, name, one)
                check.kind = check.kind or kind_of(check)
                catalog.put_check(check)
        return answer(request, True)

    def _put_node(self, node: NodeRecord) -> None:
        """One that comes with the id of another is that one, renamed."""
        same = [one.name for one in self._catalog.nodes.values() if node.id and one.id == node.id]
        for old in same:
            if old != node.name:
                self._catalog.remove_node(old)
        self._catalog.put_node(node)

    def _vet(self, node: str, service: ServiceRecord | None, checks: list[Json]) -> None:
        """What is wrong is told before anything is written: all of it is, or nothing."""
        if service is not None and not service.name:
            if service.id:
                raise Refused(500, "Must provide service name with ID")
            what = "failed inserting service"
            raise Refused(500, f"{what}: {what}: object missing primary index")
        for one in checks:
            what = "failed inserting check"
            if one.get("Node", node) not in ("", node):
                words = f"check node '{one['Node']}' does not match node '{node}'"
                raise Refused(500, f"{what}: {words}")
            if not (one.get("CheckID") or one.get("Name")):
                raise Refused(500, f'{what}: {what}: object missing primary index on node "{node}"')
            id_ = one.get("ServiceID", "")
            there = service is not None and service.id == id_
            if id_ and not there and (node, id_) not in self._catalog.services:
                raise Refused(500, f'{what}: Missing service registration on node "{node}"')

    def deregister(self, request: Request) -> Response:
        found = go.decode(request.body, "struct { Address string; *structs.Alias }")
        body = go.fields(found, entries.DEREGISTRATION, strict=True)
        here(request)
        elsewhere(body.get("Datacenter", ""))
        name = body.get("Node", "")
        if not name:
            raise Refused(500, "Must provide node")
        with self._catalog.batch():
            if body.get("ServiceID"):
                self._catalog.remove_service(name, body["ServiceID"])
            elif body.get("CheckID"):
                self._catalog.remove_check(name, body["CheckID"])
            else:
                self._catalog.remove_node(name)
        return answer(request, True)
