"""
/v1/catalog/register and deregister: nodes that run no agent, and what is on them.
"""

from __future__ import annotations

from typing import Any

from discovery.agent import go
from discovery.agent.blocking import answer, here
from discovery.agent.catalog import Catalog
from discovery.agent.door import Routes
from discovery.agent.go import Refused
from discovery.agent.records import CheckRecord, NodeRecord, ServiceRecord
from discovery.agent.wire import Request, Response


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
        body = go.decode(request.body, "structs.RegisterRequest")
        here(request)
        name, address = body.get("Node", ""), body.get("Address", "")
        if not name:
            raise Refused(500, "Must provide node")
        if not address and not body.get("SkipNodeUpdate"):
            raise Refused(500, "Must provide address if SkipNodeUpdate is not set")
        catalog = self._catalog
        try:
            with catalog.batch():
                known = catalog.nodes.get(name)
                if known is None or not body.get("SkipNodeUpdate"):
                    catalog.put_node(node_of(body | {"Meta": body.get("NodeMeta")}, known))
                if body.get("Service"):
                    catalog.put_service(service_of(name, body["Service"]))
                for one in [*(body.get("Checks") or []), *filter(None, [body.get("Check")])]:
                    catalog.put_check(check_of(catalog, name, one))
        except (KeyError, TypeError, AttributeError) as error:
            raise Refused(400, f"Request decode failed: {error}") from error
        return answer(request, True)

    def deregister(self, request: Request) -> Response:
        into = "struct { Address string; *structs.Alias }"
        body = go.decode(request.body, into)
        here(request)
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


def node_of(asked: dict[str, Any], known: NodeRecord | None) -> NodeRecord:
    return NodeRecord(
        asked["Node"],
        asked.get("Address") or "",
        asked.get("ID") or (known.id if known is not None else ""),
        tagged_addresses=asked.get("TaggedAddresses") or {},
        meta=asked.get("Meta") or {},
    )


def service_of(node: str, asked: dict[str, Any]) -> ServiceRecord:
    weights = asked.get("Weights") or {}
    return ServiceRecord(
        node,
        asked.get("ID") or asked["Service"],
        asked["Service"],
        asked.get("Address") or "",
        asked.get("Port") or 0,
        asked.get("Tags"),
        asked.get("Meta") or {},
        weights.get("Passing", 1),
        weights.get("Warning", 1),
        bool(asked.get("EnableTagOverride")),
        asked.get("TaggedAddresses") or {},
    )


def check_of(catalog: Catalog, node: str, asked: dict[str, Any]) -> CheckRecord:
    service = catalog.services.get((node, asked.get("ServiceID") or ""))
    return CheckRecord(
        node,
        asked.get("CheckID") or asked["Name"],
        asked.get("Name") or asked["CheckID"],
        asked.get("Status") or "critical",
        asked.get("Notes") or "",
        asked.get("Output") or "",
        service_id="" if service is None else service.id,
        service_name="" if service is None else service.name,
        service_tags=None if service is None else service.tags,
    )
