"""
/v1/agent: registering with this agent, its checks, and what it says of itself.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from aiohttp import web

from discovery.agent import definition, records
from discovery.agent.blocking import answer
from discovery.agent.definition import STATUSES, Refused
from discovery.agent.local import Local
from discovery.agent.records import CheckRecord, NodeRecord

VERSION = "1.8.7"
NO_DEFINITION = {
    "Interval": "0s",
    "Timeout": "0s",
    "DeregisterCriticalServiceAfter": "0s",
    "HTTP": "",
    "Header": None,
    "Method": "",
    "Body": "",
    "TLSSkipVerify": False,
    "TCP": "",
}
STATUS_OF = {"passing": 200, "warning": 429, "critical": 503, "maintenance": 503}


class AgentApi:
    def __init__(self, local: Local, node: NodeRecord, port: int) -> None:
        self._local = local
        self._node = node
        self._port = port

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/agent/self", self.self),
            web.get("/v1/agent/members", self.members),
            web.get("/v1/agent/services", self.services),
            web.get("/v1/agent/service/{id:(?!register$)[^/]+}", self.service),
            web.put("/v1/agent/service/register", self.register),
            web.put("/v1/agent/service/deregister/{id:.*}", self.deregister),
            web.put("/v1/agent/service/maintenance/{id:.*}", self.maintain_service),
            web.put("/v1/agent/maintenance", self.maintain_node),
            web.get("/v1/agent/checks", self.checks),
            web.put("/v1/agent/check/register", self.register_check),
            web.put("/v1/agent/check/deregister/{id:.*}", self.deregister_check),
            web.put("/v1/agent/check/pass/{id:.*}", self.passing),
            web.put("/v1/agent/check/warn/{id:.*}", self.warning),
            web.put("/v1/agent/check/fail/{id:.*}", self.critical),
            web.put("/v1/agent/check/update/{id:.*}", self.update),
            web.get("/v1/agent/health/service/id/{id:.*}", self.health_by_id),
            web.get("/v1/agent/health/service/name/{name:.*}", self.health_by_name),
        ]

    async def self(self, request: web.Request) -> web.Response:
        node = self._node
        return answer(
            request,
            {
                "Config": {
                    "Datacenter": node.datacenter,
                    "NodeName": node.name,
                    "NodeID": node.id,
                    "Revision": "",
                    "Server": True,
                    "Version": VERSION,
                },
                "DebugConfig": {"DevMode": True, "ACLsEnabled": False},
                "Member": self._member(),
                "Meta": node.meta,
            },
        )

    async def members(self, request: web.Request) -> web.Response:
        return answer(request, [self._member()])

    def _member(self) -> dict[str, Any]:
        return {
            "Name": self._node.name,
            "Addr": self._node.address,
            "Port": self._port,
            "Tags": {"role": "consul", "dc": self._node.datacenter, "build": f"{VERSION}:"},
            "Status": 1,
        }

    # services

    async def services(self, request: web.Request) -> web.Response:
        found = self._local.services()
        return answer(request, {record.id: records.agent_service(record) for record in found})

    async def service(self, request: web.Request) -> web.Response:
        record = self._local.service(request.match_info["id"])
        if record is None:
            raise Refused(404, f"unknown service ID: {request.match_info['id']}")
        shown = records.agent_service(record)
        digest = hashlib.blake2b(msgspec.json.encode(shown), digest_size=8).hexdigest()
        response = answer(request, shown | {"ContentHash": digest})
        response.headers["X-Consul-ContentHash"] = digest
        return response

    async def register(self, request: web.Request) -> web.Response:
        asked = definition.service(await request.read())
        self._local.register(asked, replace_checks=_asks(request, "replace-existing-checks"))
        return web.Response()

    async def deregister(self, request: web.Request) -> web.Response:
        self._local.deregister(request.match_info["id"])
        return web.Response()

    async def maintain_service(self, request: web.Request) -> web.Response:
        service_id = request.match_info["id"]
        if not service_id:
            raise Refused(400, "Missing service ID")
        enable = _enable(request)
        reason = request.query.get("reason", "")
        self._local.maintain_service(service_id, enable=enable, reason=reason)
        return web.Response()

    async def maintain_node(self, request: web.Request) -> web.Response:
        enable = _enable(request)
        self._local.maintain_node(enable=enable, reason=request.query.get("reason", ""))
        return web.Response()

    # checks

    async def checks(self, request: web.Request) -> web.Response:
        found = self._local.all_checks()
        return answer(request, {record.id: records.check(record, local=True) for record in found})

    async def register_check(self, request: web.Request) -> web.Response:
        asked = definition.check(await request.read())
        asked.id = asked.id or asked.name
        self._local.add_check(asked)
        return web.Response()

    async def deregister_check(self, request: web.Request) -> web.Response:
        self._local.remove_check(request.match_info["id"])
        return web.Response()

    async def passing(self, request: web.Request) -> web.Response:
        return self._beat(request, "passing", request.query.get("note", ""))

    async def warning(self, request: web.Request) -> web.Response:
        return self._beat(request, "warning", request.query.get("note", ""))

    async def critical(self, request: web.Request) -> web.Response:
        return self._beat(request, "critical", request.query.get("note", ""))

    async def update(self, request: web.Request) -> web.Response:
        body = definition.decode(await request.read())
        status = body.get("Status", "")
        if status not in STATUSES:
            raise Refused(400, f"Invalid check status: '{status}'")
        return self._beat(request, status, str(body.get("Output", "")))

    def _beat(self, request: web.Request, status: str, output: str) -> web.Response:
        self._local.heartbeat(request.match_info["id"], status, output)
        return web.Response()

    # health, as load balancers ask it

    async def health_by_id(self, request: web.Request) -> web.Response:
        record = self._local.service(request.match_info["id"])
        if record is None:
            if _asks_text(request):
                return web.Response(
                    status=404, text=f"ServiceId {request.match_info['id']} not found"
                )
            empty = {"AggregatedStatus": "critical", "Service": None, "Checks": None}
            return answer(request, empty, status=404)
        shown = self._health(record.id)
        status = shown["AggregatedStatus"]
        if _asks_text(request):
            return web.Response(status=STATUS_OF[status], text=status)
        return answer(request, shown, status=STATUS_OF[status])

    async def health_by_name(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        found = [self._health(one.id) for one in self._local.services() if one.name == name]
        if not found:
            if _asks_text(request):
                return web.Response(status=404, text=f"ServiceName {name} Not Found")
            return answer(request, [], status=404)
        worst = max((one["AggregatedStatus"] for one in found), key=lambda word: STATUS_OF[word])
        if _asks_text(request):
            return web.Response(status=STATUS_OF[worst], text=worst)
        return answer(request, found, status=STATUS_OF[worst])

    def _health(self, service_id: str) -> dict[str, Any]:
        local = self._local
        record = local.service(service_id)
        assert record is not None
        checks = local.checks_of(service_id)
        return {
            "AggregatedStatus": records.aggregated(checks),
            "Service": records.agent_service(record),
            "Checks": [_bare(check) for check in checks],
        }


def _bare(check: CheckRecord) -> dict[str, Any]:
    """A check in /v1/agent/health: without its type, and with an empty definition spelt out."""
    unknown = {"Type": "", "Definition": NO_DEFINITION, "ServiceTags": check.service_tags}
    return records.check(check, local=True) | unknown


def _asks(request: web.Request, name: str) -> bool:
    return request.query.get(name, "0") in ("", "1", "t", "true", "True", "TRUE")


def _asks_text(request: web.Request) -> bool:
    return request.query.get("format") == "text" or "text/plain" in request.headers.get(
        "Accept", ""
    )


def _enable(request: web.Request) -> bool:
    value = request.query.get("enable", "")
    if not value:
        raise Refused(400, "Missing value for enable")
    if value in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if value in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise Refused(400, f'Invalid value for enable: "{value}"')
