"""
/v1/agent/self, members and coordinates: what the agent says of itself, as one node of no cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from discovery.agent.blocking import Answer, Blocking, answer
from discovery.agent.catalog import Catalog
from discovery.agent.door import Routes
from discovery.agent.go import Refused
from discovery.agent.local import Local
from discovery.agent.records import NodeRecord
from discovery.agent.wire import Request, Response, text

VERSION = "1.8.7"
COORDINATE: Mapping[str, Any] = {"Vec": [0] * 8, "Error": 1.5, "Adjustment": 0, "Height": 1e-05}
PROTOCOLS = {
    "ProtocolMin": 1,
    "ProtocolMax": 5,
    "ProtocolCur": 2,
    "DelegateMin": 2,
    "DelegateMax": 5,
    "DelegateCur": 4,
}


class SelfApi:
    """`address` is where the agent's HTTP is."""

    def __init__(
        self, catalog: Catalog, blocking: Blocking, local: Local, node: NodeRecord, address: str
    ) -> None:
        self._catalog = catalog
        self._blocking = blocking
        self._local = local
        self._node = node
        self._host, _, port = address.rpartition(":")
        self._port = int(port)

    def routes(self) -> Routes:
        return {
            "/v1/agent/self": {"GET": self.self},
            "/v1/agent/members": {"GET": self.members},
            "/v1/agent/reload": {"PUT": self.nothing},
            "/v1/agent/join/": {"PUT": self.nothing},
            "/v1/agent/force-leave/": {"PUT": self.force_leave},
            "/v1/coordinate/nodes": {"GET": self.coordinates},
            "/v1/acl/": {"GET": self.no_acls, "PUT": self.no_acls, "DELETE": self.no_acls},
            "/": {"GET": self.hello},
        }

    def self(self, request: Request) -> Response:
        node = self._node
        config = {
            "Datacenter": node.datacenter,
            "NodeName": node.name,
            "NodeID": node.id,
            "Revision": "",
            "Server": True,
            "Version": VERSION,
        }
        return answer(
            request,
            {
                "Config": config,
                "DebugConfig": self._debug_config(),
                "Coord": COORDINATE,
                "Member": self._member(),
                "Stats": self._stats(),
                "Meta": node.meta,
            },
        )

    def members(self, request: Request) -> Response:
        if request.query.get("segment"):
            raise Refused(500, "Network segments are not supported in this version of Consul")
        return answer(request, [self._member(wan="wan" in request.query)])

    def nothing(self, request: Request) -> Response:
        """There is no configuration to read again, and nobody to join."""
        return Response()

    def force_leave(self, request: Request) -> Response:
        raise Refused(500, f"agent: No node found with name '{request.rest}'")

    def coordinates(self, request: Request) -> Answer:
        shown = [{"Node": self._node.name, "Segment": "", "Coord": COORDINATE}]
        return self._blocking.plain(request, [], lambda: (1, shown))

    def no_acls(self, request: Request) -> Response:
        raise Refused(401, "ACL support disabled")

    def hello(self, request: Request) -> Response:
        if request.rest:
            return Response(404)
        return text(200, "Consul Agent (embedded, for development)\n")

    def _member(self, *, wan: bool = False) -> dict[str, Any]:
        node = self._node
        tags = {
            "acls": "0",
            "build": f"{VERSION}:",
            "dc": node.datacenter,
            "ft_fs": "1",
            "id": node.id,
            "port": "8300",
            "raft_vsn": "3",
            "role": "consul",
            "segment": "",
            "vsn": "2",
            "vsn_max": "3",
            "vsn_min": "2",
            **({} if wan else {"wan_join_port": "8302"}),
        }
        return {
            "Name": f"{node.name}.{node.datacenter}" if wan else node.name,
            "Addr": node.address,
            "Port": 8302 if wan else 8301,
            "Tags": tags,
            "Status": 1,
            **PROTOCOLS,
        }

    def _debug_config(self) -> dict[str, Any]:
        """Of what the real one shows, all that is true of this agent."""
        node, host = self._node, self._host.strip("[]")
        return {
            "ACLDatacenter": node.datacenter,
            "ACLDefaultPolicy": "allow",
            "ACLsEnabled": False,
            "AdvertiseAddrLAN": node.address,
            "BindAddr": host,
            "CheckDeregisterIntervalMin": "1m0s",
            "CheckOutputMaxSize": 4096,
            "CheckReapInterval": "30s",
            "CheckUpdateInterval": "5m0s",
            "ClientAddrs": [host],
            "ConnectEnabled": False,
            "Datacenter": node.datacenter,
            "DefaultQueryTime": "5m0s",
            "DevMode": True,
            "EnableDebug": False,
            "EnableLocalScriptChecks": False,
            "EnableRemoteScriptChecks": False,
            "EnableUI": False,
            "GRPCPort": -1,
            "HTTPAddrs": [f"tcp://{self._host}:{self._port}"],
            "HTTPPort": self._port,
            "HTTPSPort": -1,
            "KVMaxValueSize": 524288,
            "MaxQueryTime": "10m0s",
            "NodeID": node.id,
            "NodeMeta": {},
            "NodeName": node.name,
            "PrimaryDatacenter": node.datacenter,
            "ServerMode": True,
            "TaggedAddresses": node.tagged_addresses,
            "TxnMaxReqLen": 524288,
            "Version": VERSION,
            "VersionPrerelease": "",
        }

    def _stats(self) -> dict[str, dict[str, str]]:
        checks, index = self._local.all_checks(), str(self._catalog.index)
        return {
            "agent": {
                "check_monitors": "0",
                "check_ttls": str(sum(one.kind == "ttl" for one in checks)),
                "checks": str(len(checks)),
                "services": str(len(self._local.services())),
            },
            "build": {"prerelease": "", "revision": "", "version": VERSION},
            "consul": {"bootstrap": "true", "known_datacenters": "1", "leader": "true"}
            | {"leader_addr": f"{self._node.address}:8300", "server": "true"},
            "raft": {"applied_index": index, "commit_index": index, "state": "Leader"},
        }
