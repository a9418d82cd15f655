"""
Health.Watch on a blocking channel: a thread a connection, as long as that stands.

What a server's answers mean is said in mesh/client/health.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from random import uniform
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.client.health import FIRST_PAUSE, LOG, LONGEST_PAUSE


class Watching:
    """Says under `lock` whether the server behind a connected `channel` serves, until its end."""

    def __init__(
        self,
        channel: grpc.Channel,
        service: str,
        lock: threading.RLock,
        say: Callable[[bool], None],
    ) -> None:
        self._stub = health_pb2_grpc.HealthStub(channel)
        self._service = service
        self._lock = lock
        self._say = say
        self._ended = threading.Event()
        self._call: Any = None
        threading.Thread(target=self._run, name="mesh-health", daemon=True).start()

    def end(self) -> None:
        """Say nothing any more; called under the lock."""
        self._ended.set()
        if self._call is not None:
            self._call.cancel()

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while self._begin():
            try:
                for reply in self._call:
                    pause = FIRST_PAUSE
                    self._tell(reply.status == health_pb2.HealthCheckResponse.SERVING)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    # "clients should log an error" - gRFC A17
                    LOG.error("no health of %r to watch: no health service there", self._service)
                    self._tell(True)
                    return
            self._tell(False)
            self._ended.wait(pause * uniform(0.8, 1.2))
            pause = min(1.6 * pause, LONGEST_PAUSE)

    def _begin(self) -> bool:
        with self._lock:
            if not self._ended.is_set():
                request = health_pb2.HealthCheckRequest(service=self._service)
                self._call = self._stub.Watch(request)
            return not self._ended.is_set()

    def _tell(self, serving: bool) -> None:
        with self._lock:
            if not self._ended.is_set():
                self._say(serving)
