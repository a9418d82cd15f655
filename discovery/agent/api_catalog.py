"""
/v1/catalog, /v1/health and /v1/status: what the cluster knows, all of it by blocking queries.

?tag, ?passing, ?node-meta, ?filter and ?near narrow and order what is found, as in Consul.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import is_not
from typing import Any

import msgspec

from discovery.agent import filtering, go, records
from discovery.agent.blocking import UNANSWERED, Answer, Blocking, answer
from discovery.agent.catalog import Catalog
from discovery.agent.door import Routes
from discovery.agent.filtering import Shape, Test, every
from discovery.agent.go import Refused
from discovery.agent.records import CheckRecord, NodeRecord, ServiceRecord
from discovery.agent.wire import Request, Response


class CatalogApi:
    """The read side of the catalog; `node` is the agent's own, which is near itself."""

    def __init__(self, catalog: Catalog, blocking: Blocking, leader: str, node: str) -> None:
        self._catalog = catalog
        self._blocking = blocking
        self._leader = leader
        self._node = node
        # What was last printed, of which service and after which write: its watchers all wake in
        # one turn and ask again in the next, and ten thousand instances take 50 ms to print.  Not
        # by the service's own index: as there, it stays when an instance takes another name.
        self._printed: tuple[tuple[str, int], msgspec.Raw] | None = None

    def routes(self) -> Routes:
        return {
            "/v1/status/leader": {"GET": self.leader},
            "/v1/status/peers": {"GET": self.peers},
            "/v1/catalog/datacenters": {"GET": self.datacenters},
            "/v1/catalog/services": {"GET": self.services},
            "/v1/catalog/service/": {"GET": self.service},
            "/v1/catalog/connect/": {"GET": self.nobody},
            "/v1/catalog/nodes": {"GET": self.nodes},
            "/v1/catalog/node/": {"GET": self.node},
            "/v1/catalog/node-services/": {"GET": self.node_services},
            "/v1/health/service/": {"GET": self.health},
            "/v1/health/connect/": {"GET": self.nobody},
            "/v1/health/checks/": {"GET": self.checks},
            "/v1/health/state/": {"GET": self.state},
            "/v1/health/node/": {"GET": self.node_checks},
        }

    def leader(self, request: Request) -> Response:
        return answer(request, self._leader)

    def peers(self, request: Request) -> Response:
        return answer(request, [self._leader])

    def datacenters(self, request: Request) -> Response:
        return answer(request, ["dc1"])

    def services(self, request: Request) -> Answer:
        catalog, wanted = self._catalog, _node_meta(request)

        def read() -> tuple[int, Any]:
            nodes = {name for name, one in catalog.nodes.items() if _has_meta(one, wanted)}
            return catalog.index_of("services"), catalog.tags(nodes)

        return self._blocking.query(request, ["services"], read)

    def nodes(self, request: Request) -> Answer:
        catalog, wanted = self._catalog, _node_meta(request)
        keep, near = _filter(request, filtering.NODE), self._near(request)

        def read() -> tuple[int, Any]:
            found = sorted(catalog.nodes.values(), key=lambda one: (one.name != near, one.name))
            shown = (records.node(one) for one in found if _has_meta(one, wanted))
            return catalog.index_of("nodes"), [one for one in shown if keep(one)]

        return self._blocking.query(request, ["nodes"], read)

    def node(self, request: Request) -> Answer:
        return self._of_node(request, lambda found: {one["ID"]: one for one in found}, None)

    def node_services(self, request: Request) -> Answer:
        return self._of_node(request, lambda found: found or None, {"Node": None, "Services": None})

    def _of_node(self, request: Request, shape: Any, nobody: Any) -> Answer:
        catalog, name = self._catalog, _named(request, "node name")
        keep = _filter(request, filtering.SERVICE)

        def read() -> tuple[int, Any]:
            index = catalog.index_of("nodes", "services")
            owner = catalog.nodes.get(name)
            if owner is None:
                return 0, nobody  # as there: a node that is not has no index
            found = [
                records.health_service(service)
                for key, service in sorted(catalog.services.items())
                if key[0] == name
            ]
            services = shape([one for one in found if keep(one)])
            return index, {"Node": records.node(owner), "Services": services}

        return self._blocking.query(request, ["nodes", "services"], read)

    def service(self, request: Request) -> Answer:
        catalog, name = self._catalog, _named(request, "service name")
        tags, wanted = request.query.every("tag"), _node_meta(request)
        keep, near = _filter(request, filtering.CATALOG_SERVICE), self._near(request)

        def read() -> tuple[int, Any]:
            found = [
                records.catalog_service(record, catalog.nodes[record.node])
                for record in _nearest(catalog.instances(name), near)
                if _tagged(record, tags) and _has_meta(catalog.nodes[record.node], wanted)
            ]
            index = catalog.service_index(name, checks=False)
            return index, [one for one in found if keep(one)]

        return self._blocking.query(request, [f"service:{name}"], read)

    def nobody(self, request: Request) -> Answer:
        """Instances that take part in Connect: this agent has none."""
        name = _named(request, "service name")

        def read() -> tuple[int, Any]:
            return self._catalog.service_index(name, checks=False), []

        return self._blocking.query(request, [f"service:{name}"], read)

    def health(self, request: Request) -> Answer:
        catalog, name = self._catalog, _named(request, "service name")
        tags, wanted = request.query.every("tag"), _node_meta(request)
        passing = _truth(request, "passing")
        keep, near = _filter(request, filtering.HEALTH), self._near(request)
        plain = keep is every and not (passing or tags or wanted or near)

        def read() -> tuple[int, Any]:
            index = catalog.service_index(name, checks=True)
            version = (name, catalog.index)
            if plain and self._printed is not None and self._printed[0] == version:
                return index, self._printed[1]
            found: list[tuple[NodeRecord, ServiceRecord, list[CheckRecord]]] = []
            of_nodes: dict[str, list[CheckRecord]] = {}
            for record in _nearest(catalog.instances(name), near):
                owner = catalog.nodes[record.node]
                if not _tagged(record, tags) or not _has_meta(owner, wanted):
                    continue
                if record.node not in of_nodes:
                    of_nodes[record.node] = catalog.checks_of(record.node, "")
                # What the health of an instance is made of: its node's checks and its own.
                checks = of_nodes[record.node] + catalog.checks_of(record.node, record.id)
                if keep is every or keep(_entry(owner, record, checks)):
                    found.append((owner, record, checks))
            if passing:
                _drop_ill(found)
            shown = [_encoded(owner, record, checks) for owner, record, checks in found]
            if not plain:
                return index, shown
            whole = msgspec.Raw(msgspec.json.encode(shown))
            self._printed = (version, whole)
            return index, whole

        return self._blocking.query(request, [f"service:{name}"], read)

    def checks(self, request: Request) -> Answer:
        catalog, name = self._catalog, _named(request, "service name")

        def read() -> tuple[int, Iterable[CheckRecord]]:
            # By the name each check was given, which a renamed service leaves behind.
            found = [one for _, one in sorted(catalog.checks.items()) if one.service_name == name]
            return catalog.index_of("checks"), found

        return self._checks(request, read)

    def state(self, request: Request) -> Answer:
        catalog, status = self._catalog, _named(request, "check state")

        def read() -> tuple[int, Iterable[CheckRecord]]:
            all_ = sorted(catalog.checks.items())
            return catalog.index_of("checks"), [
                one for _, one in all_ if status in ("any", one.status)
            ]

        return self._checks(request, read)

    def node_checks(self, request: Request) -> Answer:
        catalog, name = self._catalog, _named(request, "node name")

        def read() -> tuple[int, Iterable[CheckRecord]]:
            all_ = sorted(catalog.checks.items())
            return catalog.index_of("checks"), [one for key, one in all_ if key[0] == name]

        return self._checks(request, read)

    def _checks(self, request: Request, read: Any) -> Answer:
        nodes, wanted = self._catalog.nodes, _node_meta(request)
        keep, near = _filter(request, filtering.CHECK), self._near(request)

        def shown() -> tuple[int, Any]:
            index, found = read()
            kept = (
                records.check(one)
                for one in _nearest(found, near)
                if not wanted or _has_meta(nodes[one.node], wanted)
            )
            return index, [one for one in kept if keep(one)]

        return self._blocking.query(request, ["checks"], shown)

    def _near(self, request: Request) -> str:
        """
        The node whose own come first.

        Nodes without an agent have no coordinates, so that no distance is known but 0.
        """
        near = request.query.get("near")
        return self._node if near in ("_agent", self._node) else ""


def _entry(owner: NodeRecord, record: ServiceRecord, checks: list[CheckRecord]) -> records.Json:
    return {
        "Node": records.node(owner),
        "Service": records.health_service(record),
        "Checks": [records.check(check) for check in checks],
    }


def _drop_ill(found: list[tuple[NodeRecord, ServiceRecord, list[CheckRecord]]]) -> None:
    """Leaves who passes, in the order in which Consul does: the last takes an ill one's place."""
    at = 0
    while at < len(found):
        if records.worst(found[at][2]) == "passing":
            at += 1
            continue
        last = found.pop()
        if at < len(found):
            found[at] = last


def _encoded(owner: NodeRecord, record: ServiceRecord, checks: list[CheckRecord]) -> msgspec.Raw:
    """
    An entry as JSON, made once for as long as the records that it is made of are in the catalog.

    Of ten thousand instances, the change of one would else cost the printing of all.
    """
    made_of = (owner, *checks)
    shown = record.shown
    if shown is None or len(shown[0]) != len(made_of) or any(map(is_not, shown[0], made_of)):
        shown = (made_of, msgspec.json.encode(_entry(owner, record, checks)))
        record.shown = shown
    return msgspec.Raw(shown[1])


def _nearest(found: Any, near: str) -> Any:
    return sorted(found, key=lambda one: one.node != near) if near else found


def _named(request: Request, what: str) -> str:
    if not request.rest:
        raise Refused(400, f"Missing {what}")
    return request.rest


def _filter(request: Request, shape: Shape) -> Test:
    try:
        return filtering.filter_of(request.query.get("filter"), shape)
    except filtering.Unfit as error:
        words = f"Failed to create boolean expression evaluator: {error}"
        raise Refused(500, words, UNANSWERED) from None


def _tagged(record: ServiceRecord, tags: list[str]) -> bool:
    if not tags:
        return True
    have = {tag.lower() for tag in record.tags or ()}
    return all(tag.lower() in have for tag in tags)


def _node_meta(request: Request) -> list[tuple[str, str]]:
    pairs = (one.partition(":") for one in request.query.every("node-meta"))
    return [(name, value) for name, _, value in pairs]


def _has_meta(node: NodeRecord, wanted: list[tuple[str, str]]) -> bool:
    return not wanted or all(node.meta.get(name) == value for name, value in wanted)


def _truth(request: Request, name: str) -> bool:
    """?passing and ?passing=1 are true, ?passing=0 is not."""
    if name not in request.query:
        return False
    found = go.truth(request.query.get(name) or "true")
    if found is None:
        raise Refused(400, f"Invalid value for ?{name}")
    return found
