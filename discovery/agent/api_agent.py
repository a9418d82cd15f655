"""
/v1/agent: what is registered with this agent, and its checks.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from discovery.agent import definition, filtering, go, records
from discovery.agent.blocking import Answer, Blocking, answer, wait_of
from discovery.agent.definition import STATUSES
from discovery.agent.door import Routes
from discovery.agent.filtering import Shape, Test
from discovery.agent.go import Refused
from discovery.agent.local import Local
from discovery.agent.records import CheckRecord, ServiceRecord
from discovery.agent.wire import Request, Response, text

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
UPDATE = {"status": ("Status", "string"), "output": ("Output", "string")}
STATUS_OF = {"passing": 200, "warning": 429, "critical": 503, "maintenance": 503}


class AgentApi:
    """What one agent says of what is registered with it."""

    def __init__(self, local: Local, blocking: Blocking) -> None:
        self._local = local
        self._blocking = blocking

    def routes(self) -> Routes:
        return {
            "/v1/agent/services": {"GET": self.services},
            "/v1/agent/service/": {"GET": self.service},
            "/v1/agent/service/register": {"PUT": self.register},
            "/v1/agent/service/deregister/": {"PUT": self.deregister},
            "/v1/agent/service/maintenance/": {"PUT": self.maintain_service},
            "/v1/agent/maintenance": {"PUT": self.maintain_node},
            "/v1/agent/checks": {"GET": self.checks},
            "/v1/agent/check/register": {"PUT": self.register_check},
            "/v1/agent/check/deregister/": {"PUT": self.deregister_check},
            "/v1/agent/check/pass/": {"PUT": self.passing},
            "/v1/agent/check/warn/": {"PUT": self.warning},
            "/v1/agent/check/fail/": {"PUT": self.critical},
            "/v1/agent/check/update/": {"PUT": self.update},
            "/v1/agent/health/service/id/": {"GET": self.health_by_id},
            "/v1/agent/health/service/name/": {"GET": self.health_by_name},
        }

    # services

    def services(self, request: Request) -> Response:
        keep = _filter(
            request, filtering.SERVICE, "Failed to create boolean expression evaluator: "
        )
        shown = ((one.id, records.agent_service(one)) for one in self._local.services())
        return answer(request, {id_: one for id_, one in shown if keep(one)})

    def service(self, request: Request) -> Answer:
        """Blocks by content: while its hash is the one that was seen."""
        service_id, seen = request.rest, request.query.get("hash")
        wait = wait_of(request)

        def look(last: bool) -> Response | None:
            record = self._local.service(service_id)
            if record is None:
                raise Refused(404, f"unknown service ID: {service_id}")
            hash_ = content_hash(record)
            if hash_ == seen and not last:
                return None
            response = answer(request, records.agent_service(record) | {"ContentHash": hash_})
            response.headers["X-Consul-Contenthash"] = hash_
            return response

        return look(False) or self._blocking.until(["services"], look, wait)

    def register(self, request: Request) -> Response:
        asked = definition.service(request.body)
        self._local.register(asked, replace_checks=_asks(request, "replace-existing-checks"))
        return Response()

    def deregister(self, request: Request) -> Response:
        self._local.deregister(_id(request, "ServiceID"))
        return Response()

    def maintain_service(self, request: Request) -> Response:
        service_id = request.rest
        if not service_id:
            raise Refused(400, "Missing service ID")
        enable = _enable(request)
        reason = request.query.get("reason")
        self._local.maintain_service(service_id, enable=enable, reason=reason)
        return Response()

    def maintain_node(self, request: Request) -> Response:
        enable = _enable(request)
        self._local.maintain_node(enable=enable, reason=request.query.get("reason"))
        return Response()

    # checks

    def checks(self, request: Request) -> Response:
        keep = _filter(request, filtering.CHECK)
        shown = ((one.id, records.check(one, local=True)) for one in self._local.all_checks())
        return answer(request, {id_: one for id_, one in shown if keep(one)})

    def register_check(self, request: Request) -> Response:
        asked = definition.check(request.body)
        asked.id = asked.id or asked.name
        self._local.add_check(asked)
        return Response()

    def deregister_check(self, request: Request) -> Response:
        self._local.remove_check(_id(request, "CheckID"))
        return Response()

    def passing(self, request: Request) -> Response:
        return self._beat(request, "passing", request.query.get("note"))

    def warning(self, request: Request) -> Response:
        return self._beat(request, "warning", request.query.get("note"))

    def critical(self, request: Request) -> Response:
        return self._beat(request, "critical", request.query.get("note"))

    def update(self, request: Request) -> Response:
        found = go.decode(request.body, "agent.checkUpdate")
        body = go.fields(found, UPDATE, owner="checkUpdate", strict=True)
        status = body.get("Status", "")
        if status not in STATUSES:
            raise Refused(400, f"Invalid check status: '{status}'")
        return self._beat(request, status, body.get("Output", ""))

    def _beat(self, request: Request, status: str, output: str) -> Response:
        self._local.heartbeat(request.rest, status, output)
        return Response()

    # health, as load balancers ask it

    def health_by_id(self, request: Request) -> Response:
        if not request.rest:
            raise Refused(500, "Bad request: Missing serviceID")
        record = self._local.service(request.rest)
        if record is None:
            if _asks_text(request):
                # Consul forgets here that it was asked for text.
                return answer(request, f"ServiceId {request.rest} not found", status=404)
            empty = {"AggregatedStatus": "critical", "Service": None, "Checks": None}
            return answer(request, empty, status=404)
        shown = self._health(record.id)
        status = shown["AggregatedStatus"]
        if _asks_text(request):
            return text(STATUS_OF[status], status)
        return answer(request, shown, status=STATUS_OF[status])

    def health_by_name(self, request: Request) -> Response:
        name = request.rest
        if not name:
            raise Refused(500, "Bad request: Missing service Name")
        found = [self._health(one.id) for one in self._local.services() if one.name == name]
        if not found:
            if _asks_text(request):
                return text(404, f"ServiceName {name} Not Found")
            return answer(request, [], status=404)
        worst = max((one["AggregatedStatus"] for one in found), key=lambda word: STATUS_OF[word])
        if _asks_text(request):
            return text(STATUS_OF[worst], worst)
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


def content_hash(record: ServiceRecord) -> str:
    shown = msgspec.json.encode(records.agent_service(record))
    return hashlib.blake2b(shown, digest_size=8).hexdigest()


def _filter(request: Request, shape: Shape, why: str = "") -> Test:
    try:
        return filtering.filter_of(request.query.get("filter"), shape)
    except filtering.Unfit as error:
        raise Refused(500, f"{why}{error}") from None


def _id(request: Request, what: str) -> str:
    if not request.rest:
        raise Refused(500, f"{what} missing")
    return request.rest


def _asks(request: Request, name: str) -> bool:
    return name in request.query and go.truth(request.query.get(name) or "true") is True


def _asks_text(request: Request) -> bool:
    return request.query.get("format") == "text" or "text/plain" in request.headers.get(
        "accept", ""
    )


def _enable(request: Request) -> bool:
    value = request.query.get("enable")
    if not value:
        raise Refused(400, "Missing value for enable")
    enable = go.truth(value)
    if enable is None:
        raise Refused(400, f'Invalid value for enable: "{value}"')
    return enable
