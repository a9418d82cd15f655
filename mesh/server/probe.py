"""
Ask a server whether it is well, as a container's health check does.

    python -m mesh.server.probe 127.0.0.1:50051 [SERVICE]

Exit code 0 when it answers SERVING, 1 when it answers anything else or not within two seconds,
2 for bad usage.  Blocking and plain on purpose: it needs neither a registry nor an event loop.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

SECONDS = 2.0
SERVING = HealthCheckResponse.SERVING


def main(arguments: Sequence[str]) -> int:
    if not 1 <= len(arguments) <= 2:
        print("usage: python -m mesh.server.probe HOST:PORT [SERVICE]", file=sys.stderr)
        return 2
    address, service = (*arguments, "")[:2]
    with grpc.insecure_channel(address) as channel:
        try:
            answer = HealthStub(channel).Check(HealthCheckRequest(service=service), timeout=SECONDS)
        except grpc.RpcError as error:
            print(f"{address}: {error.code().name}", file=sys.stderr)
            return 1
    print(f"{address}: {HealthCheckResponse.ServingStatus.Name(answer.status)}")
    return 0 if answer.status == SERVING else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
