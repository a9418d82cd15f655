"""
Client-side health checking (gRFC A17): a connected server is asked whether it serves.

    READY --> Watch(service) --> SERVING          may be picked
                             --> anything else    may not, until it says otherwise
                             --> UNIMPLEMENTED    may be picked: it knows no health
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from random import uniform

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

LOG = logging.getLogger(__name__)
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 120.0


async def watch(channel: grpc.aio.Channel, service: str, say: Callable[[bool], None]) -> None:
    """Say whether the server behind a connected `channel` serves `service`, whenever it changes."""
    stub = health_pb2_grpc.HealthStub(channel)
    pause = FIRST_PAUSE
    while True:
        try:
            async for reply in stub.Watch(health_pb2.HealthCheckRequest(service=service)):
                pause = FIRST_PAUSE
                say(reply.status == health_pb2.HealthCheckResponse.SERVING)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                # "If the server returns the status UNIMPLEMENTED, health checks will be disabled
                # [...] clients should log an error" - gRFC A17
                LOG.error("no health of %r to watch: the server has no health service", service)  # noqa: TRY400
                say(True)
                return
        say(False)
        await asyncio.sleep(pause * uniform(0.8, 1.2))
        pause = min(1.6 * pause, LONGEST_PAUSE)
