"""
grpc.health.v1 for one server: per service and for "" (the whole), Check, List and a bounded Watch.

While draining every answer is NOT_SERVING and stays so; watches hear it and then end, so that no
watcher holds up the stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.errors import Code, StatusError

Status = health_pb2.HealthCheckResponse.ServingStatus
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

# One watch a connection is what clients hold; more than this is a leak on their side.
MAX_WATCHES = 1000

# "List ... RESOURCE_EXHAUSTED if more than 100 services" - gRFC A90
MAX_LISTED = 100


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """What this server says of itself; every service is SERVING until told otherwise."""

    def __init__(self, services: Iterable[str]) -> None:
        self._status: dict[str, int] = dict.fromkeys(("", *services), SERVING)
        self._draining = False
        self._ended = False
        self._watches = 0
        self._changed = asyncio.Event()

    def set(self, service: str, *, serving: bool) -> None:
        """Say whether *service* is fit to be called; ignored while draining."""
        if not self._draining:
            self._status[service] = SERVING if serving else NOT_SERVING
            self._wake()

    def drain(self) -> None:
        """NOT_SERVING for everything, for good."""
        self._draining = True
        self._status = dict.fromkeys(self._status, NOT_SERVING)
        self._wake()

    def end_watches(self) -> None:
        """Close the Watch streams: the server is about to stop."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(self, request: Any, context: Any) -> health_pb2.HealthCheckResponse:
        status = self._status.get(request.service)
        if status is None:
            # "If the service name is not registered, the server returns a NOT_FOUND" - health.proto
            raise _error(Code.NOT_FOUND, f"no service {request.service!r}", "UNKNOWN_SERVICE")
        return health_pb2.HealthCheckResponse(status=status)

    async def List(self, request: Any, context: Any) -> Any:
        if len(self._status) > MAX_LISTED:
            raise _error(Code.RESOURCE_EXHAUSTED, "too many services to list", "TOO_MANY_SERVICES")
        return health_pb2.HealthListResponse(
            statuses={
                service: health_pb2.HealthCheckResponse(status=status)
                for service, status in self._status.items()
            }
        )

    async def Watch(
        self, request: Any, context: Any
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        if self._watches >= MAX_WATCHES:
            raise _error(Code.RESOURCE_EXHAUSTED, "too many watches", "TOO_MANY_WATCHES")
        self._watches += 1
        try:
            said: int | None = None
            while True:
                changed = self._changed
                status = self._status.get(request.service, SERVICE_UNKNOWN)
                if status != said:
                    yield health_pb2.HealthCheckResponse(status=status)
                    said = status
                    continue
                if self._ended:
                    return
                await changed.wait()
        finally:
            self._watches -= 1


def _error(code: Code, message: str, reason: str) -> StatusError:
    return StatusError(code, message, reason=reason, domain="proxyless")
