"""
What the agent stores, and the JSON shapes in which Consul 1.8 shows it.

A record is changed only by the catalog, which stamps its indexes; the functions here print it as
/v1/agent, /v1/catalog and /v1/health do, each with its own field names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

RANK = {"passing": 0, "warning": 1, "critical": 2}


@dataclass(slots=True)
class NodeRecord:
    name: str
    address: str
    id: str = ""
    datacenter: str = "dc1"
    tagged_addresses: dict[str, str] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)
    created: int = 0
    modified: int = 0


@dataclass(slots=True)
class ServiceRecord:
    node: str
    id: str
    name: str
    address: str = ""
    port: int = 0
    tags: list[str] | None = None  # shown as [], but for the checks of /v1/agent/health
    meta: dict[str, str] = field(default_factory=dict)
    passing_weight: int = 1
    warning_weight: int = 1
    tag_override: bool = False
    tagged_addresses: dict[str, Json] = field(default_factory=dict)
    created: int = 0
    modified: int = 0
    # What /v1/health last showed, and of which records it was made: they are replaced by writes.
    shown: tuple[tuple[object, ...], bytes] | None = field(default=None, compare=False, repr=False)

    def content(self) -> tuple[object, ...]:
        """What makes a registration a change when it differs."""
        return (
            self.name,
            self.address,
            self.port,
            self.tags,
            self.meta,
            self.passing_weight,
            self.warning_weight,
            self.tag_override,
            self.tagged_addresses,
        )


@dataclass(slots=True)
class CheckRecord:
    node: str
    id: str
    name: str
    status: str = "critical"
    notes: str = ""
    output: str = ""
    kind: str = ""
    service_id: str = ""
    service_name: str = ""
    service_tags: list[str] | None = None
    definition: Json = field(default_factory=dict)  # of who checks nodes that run no agent
    created: int = 0
    modified: int = 0


def size(record: NodeRecord | ServiceRecord | CheckRecord) -> int:
    """Bytes that it may take, roughly: its texts, and as much again for being an object."""
    total = 500
    for name in record.__slots__:
        found = getattr(record, name)
        if isinstance(found, str):
            total += len(found)
        elif isinstance(found, list):
            total += sum(map(len, found))
        elif isinstance(found, dict):
            total += sum(len(key) + len(str(one)) for key, one in found.items())
    return 2 * total


def node(record: NodeRecord) -> Json:
    return {
        "ID": record.id,
        "Node": record.name,
        "Address": record.address,
        "Datacenter": record.datacenter,
        "TaggedAddresses": record.tagged_addresses or None,
        "Meta": record.meta or None,
        "CreateIndex": record.created,
        "ModifyIndex": record.modified,
    }


def agent_service(record: ServiceRecord) -> Json:
    """An element of /v1/agent/services."""
    shown: Json = {
        "ID": record.id,
        "Service": record.name,
        "Tags": record.tags or [],
        "Meta": record.meta,
        "Port": record.port,
        "Address": record.address,
    }
    if record.tagged_addresses:
        shown["TaggedAddresses"] = record.tagged_addresses
    shown["Weights"] = weights(record)
    shown["EnableTagOverride"] = record.tag_override
    return shown


def health_service(record: ServiceRecord) -> Json:
    """The Service of a /v1/health/service entry."""
    shown: Json = {
        "ID": record.id,
        "Service": record.name,
        "Tags": record.tags or [],
        "Address": record.address,
    }
    if record.tagged_addresses:
        shown["TaggedAddresses"] = record.tagged_addresses
    return shown | {
        "Meta": record.meta or None,
        "Port": record.port,
        "Weights": weights(record),
        "EnableTagOverride": record.tag_override,
        "Proxy": {"MeshGateway": {}, "Expose": {}},
        "Connect": {},
        "CreateIndex": record.created,
        "ModifyIndex": record.modified,
    }


def catalog_service(record: ServiceRecord, owner: NodeRecord) -> Json:
    """An element of /v1/catalog/service/<name>."""
    shown: Json = {
        "ID": owner.id,
        "Node": owner.name,
        "Address": owner.address,
        "Datacenter": owner.datacenter,
        "TaggedAddresses": owner.tagged_addresses or None,
        "NodeMeta": owner.meta or None,
        "ServiceKind": "",
        "ServiceID": record.id,
        "ServiceName": record.name,
        "ServiceTags": record.tags or [],
        "ServiceAddress": record.address,
        "ServiceWeights": weights(record),
        "ServiceMeta": record.meta,
        "ServicePort": record.port,
        "ServiceEnableTagOverride": record.tag_override,
        "ServiceProxy": {"MeshGateway": {}, "Expose": {}},
        "ServiceConnect": {},
        "CreateIndex": record.created,
        "ModifyIndex": record.modified,
    }
    if record.tagged_addresses:
        shown["ServiceTaggedAddresses"] = record.tagged_addresses
    return shown


def check(record: CheckRecord, *, local: bool = False) -> Json:
    """A check; the agent's own list carries no indexes."""
    return {
        "Node": record.node,
        "CheckID": record.id,
        "Name": record.name,
        "Status": record.status,
        "Notes": record.notes,
        "Output": record.output,
        "ServiceID": record.service_id,
        "ServiceName": record.service_name,
        "ServiceTags": record.service_tags or [],
        "Type": record.kind,
        "Definition": record.definition,
        "CreateIndex": 0 if local else record.created,
        "ModifyIndex": 0 if local else record.modified,
    }


def weights(record: ServiceRecord) -> Json:
    return {"Passing": record.passing_weight, "Warning": record.warning_weight}


def worst(checks: list[CheckRecord]) -> str:
    """The status of an instance with these checks; without any it is passing."""
    return max(
        (record.status for record in checks), key=lambda status: RANK[status], default="passing"
    )


def aggregated(checks: list[CheckRecord]) -> str:
    """`worst`, in the words of /v1/agent/health: maintenance is told apart."""
    if any(
        record.id.startswith(("_node_maintenance", "_service_maintenance:")) for record in checks
    ):
        return "maintenance"
    return worst(checks)
