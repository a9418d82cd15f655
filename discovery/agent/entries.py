"""
What goes into the catalog past an agent: bodies of nodes, services and checks, to records.

    fields(body, REGISTRATION) -> {"Node": ..., "Service": {...}}  -> node_of, service_of, check_of

Names are Go's, in any case; what Go does not know or would not put into a field is refused.  The
JSON of a transaction differs from that of a registration only in the names of a few fields.
"""

from __future__ import annotations

import re
from typing import Any

from discovery.agent import go
from discovery.agent.catalog import Catalog
from discovery.agent.go import Misread, Refused, Table
from discovery.agent.records import CheckRecord, NodeRecord, ServiceRecord

STRINGS = "map[string]string"
# Without ACLs nobody looks at a token.
_NOT_OURS: Table = {"token": ("", "string"), "namespace": ("", "string")}


def _table(**types: str) -> Table:
    """A field's own name and its Go type."""
    return {name.lower(): (name, type_) for name, type_ in types.items()} | dict(_NOT_OURS)


_INDEXES = {"CreateIndex": "uint64", "ModifyIndex": "uint64"}
REGISTRATION = _table(
    Datacenter="string",
    ID="string",
    Node="string",
    Address="string",
    TaggedAddresses=STRINGS,
    NodeMeta=STRINGS,
    Service="structs.NodeService",
    Check="structs.HealthCheck",
    Checks="structs.HealthChecks",
    SkipNodeUpdate="bool",
)
DEREGISTRATION = _table(
    Datacenter="string",
    Node="string",
    Address="string",
    ServiceID="string",
    CheckID="string",
)
NODE = _table(
    ID="string",
    Node="string",
    Address="string",
    Datacenter="string",
    TaggedAddresses=STRINGS,
    Meta=STRINGS,
    **_INDEXES,
)
SERVICE = _table(
    Kind="string",
    ID="string",
    Service="string",
    Tags="[]string",
    Meta=STRINGS,
    Port="int",
    Address="string",
    TaggedAddresses="map[string]structs.ServiceAddress",
    Weights="structs.Weights",
    EnableTagOverride="bool",
    Proxy="any",
    Connect="any",
    ContentHash="string",
    **_INDEXES,
)
WEIGHTS = _table(Passing="int", Warning="int")
CHECK = _table(
    Node="string",
    CheckID="string",
    Name="string",
    Status="string",
    Notes="string",
    Output="string",
    ServiceID="string",
    ServiceName="string",
    ServiceTags="[]string",
    Type="string",
    Definition="structs.HealthCheckDefinition",
    **_INDEXES,
)
_TIMES = ("Interval", "Timeout", "DeregisterCriticalServiceAfter")
DEFINITION = _table(
    HTTP="string",
    TLSSkipVerify="bool",
    Header="map[string][]string",
    Method="string",
    Body="string",
    TCP="string",
    GRPC="string",
    GRPCUseTLS="bool",
    TTL="any",
    **dict.fromkeys(_TIMES, "any"),
)
_KINDS = ("HTTP", "TCP", "GRPC", "TTL")


def node_of(asked: dict[str, Any], known: NodeRecord | None) -> NodeRecord:
    """A node as NODE reads it; one that is known keeps its id."""
    id_ = asked.get("ID", "")
    if id_:
        _check_id(id_)
    return NodeRecord(
        asked["Node"],
        asked.get("Address", ""),
        id_ or (known.id if known is not None else ""),
        tagged_addresses=asked.get("TaggedAddresses", {}),
        meta=asked.get("Meta", {}),
    )


def service_of(node: str, asked: dict[str, Any], owner: str = "") -> ServiceRecord:
    """A service as SERVICE reads it; weights that are given are given whole."""
    weights: dict[str, int] = {"Passing": 1, "Warning": 1}
    if "Weights" in asked:
        found = go.fields(asked["Weights"], WEIGHTS, owner=f"Weights.{owner}.Weights", strict=True)
        weights = {"Passing": 0, "Warning": 0} | found
    return ServiceRecord(
        node,
        asked.get("ID") or asked.get("Service", ""),
        asked.get("Service", ""),
        asked.get("Address", ""),
        asked.get("Port", 0),
        asked.get("Tags"),
        asked.get("Meta", {}),
        weights["Passing"],
        weights["Warning"],
        asked.get("EnableTagOverride", False),
        asked.get("TaggedAddresses", {}),
    )


def check_of(catalog: Catalog, node: str, asked: dict[str, Any]) -> CheckRecord:
    """A check as CHECK reads it; the service that it names says the rest."""
    service = catalog.services.get((node, asked.get("ServiceID", "")))
    definition = _definition(asked.get("Definition", {}))
    return CheckRecord(
        node,
        asked.get("CheckID") or asked.get("Name", ""),
        asked.get("Name", ""),
        asked.get("Status") or "critical",
        asked.get("Notes", ""),
        asked.get("Output", ""),
        asked.get("Type", ""),
        service_id="" if service is None else service.id,
        service_name="" if service is None else service.name,
        service_tags=None if service is None else service.tags,
        definition=definition,
    )


def kind_of(check: CheckRecord) -> str:
    """What a check's definition makes it."""
    return next((kind.lower() for kind in _KINDS if check.definition.get(kind)), "")


def _definition(asked: dict[str, Any]) -> dict[str, Any]:
    found = go.fields(asked, DEFINITION, owner="HealthCheckDefinition.Check.Definition")
    try:
        times = {name: go.duration(go.seconds(found[name])) for name in _TIMES if found.get(name)}
    except Misread as error:
        raise Refused(400, f"Request decode failed: {error}") from None
    kept = {name: one for name, one in found.items() if one and name not in _TIMES}
    return times | kept


def _check_id(id_: str) -> None:
    if len(id_) != 36:
        raise Refused(500, "Bad node ID: uuid string is wrong length")
    if not re.fullmatch(r"[^-]{8}(?:-[^-]{4}){3}-[^-]{12}", id_):
        raise Refused(500, "Bad node ID: uuid is improperly formatted")
    wrong = re.search("[^0-9a-fA-F-]", id_)
    if wrong is not None:
        sign = wrong[0]
        said = f"U+{ord(sign):04X} {sign!r}"
        raise Refused(500, f"Bad node ID: encoding/hex: invalid byte: {said}")
