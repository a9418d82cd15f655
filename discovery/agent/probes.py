"""
One look at an instance, as Consul takes it: does it accept, answer, say SERVING?

Each probe returns (status, output) within its timeout and never raises for what it finds.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from discovery.agent.definition import CheckDefinition

if TYPE_CHECKING:
    import aiohttp
    import grpc.aio

Found = tuple[str, str]

DEFAULT_TIMEOUT_SECONDS = 10.0
SERVING = 1


class TcpProbe:
    def __init__(self, definition: CheckDefinition) -> None:
        self._target = definition.tcp
        self._timeout = definition.timeout or DEFAULT_TIMEOUT_SECONDS

    async def look(self) -> Found:
        host, _, port = self._target.rpartition(":")
        try:
            async with asyncio.timeout(self._timeout):
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except (OSError, ValueError) as error:
            # TimeoutError is an OSError.
            return "critical", f"dial tcp {self._target}: {error or 'i/o timeout'}"
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return "passing", f"TCP connect {self._target}: Success"

    async def close(self) -> None:
        """Every look closes its own connection."""


class HttpProbe:
    """2xx is passing, 429 warning, all else critical."""

    def __init__(self, definition: CheckDefinition) -> None:
        self._definition = definition
        self._session: aiohttp.ClientSession | None = None

    async def look(self) -> Found:
        import aiohttp  # noqa: PLC0415 - the client half is loaded with the first HTTP check

        asked = self._definition
        method = asked.method or "GET"
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=asked.timeout or DEFAULT_TIMEOUT_SECONDS)
            )
        headers = [(name, value) for name, values in asked.headers.items() for value in values]
        try:
            async with self._session.request(
                method,
                asked.http,
                headers=headers,
                data=asked.body or None,
                ssl=not asked.tls_skip_verify,
            ) as response:
                text = (await response.content.read(4096)).decode(errors="replace")
                status = response.status
                reason = response.reason
        except TimeoutError:
            return "critical", f'{method.title()} "{asked.http}": context deadline exceeded'
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return "critical", f'{method.title()} "{asked.http}": {error}'
        output = f"HTTP {method} {asked.http}: {status} {reason} Output: {text}"
        if 200 <= status < 300:
            return "passing", output
        return ("warning" if status == 429 else "critical"), output

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


class GrpcProbe:
    """
    Calls grpc.health.v1.Health/Check; "host:port/service" asks for one service.

    Two fields of two messages are read and written by hand: protobuf and the health stubs would
    cost this process as much memory as all the rest of it.
    """

    def __init__(self, definition: CheckDefinition) -> None:
        self._target, _, self._service = definition.grpc.partition("/")
        self._timeout = definition.timeout or DEFAULT_TIMEOUT_SECONDS
        self._tls = definition.grpc_tls
        self._channel: grpc.aio.Channel | None = None

    async def look(self) -> Found:
        import grpc  # noqa: PLC0415 - 10 MB that only gRPC checks need
        import grpc.aio  # noqa: PLC0415

        if self._channel is None:
            # Looks decide when to connect again, not C-core's backoff of up to two minutes.
            options = [
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 500),
                ("grpc.enable_http_proxy", 0),
                ("grpc.service_config_disable_resolution", 1),
            ]
            self._channel = (
                grpc.aio.secure_channel(self._target, grpc.ssl_channel_credentials(), options)
                if self._tls
                else grpc.aio.insecure_channel(self._target, options)
            )
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            "/grpc.health.v1.Health/Check"
        )
        name = self._service.encode()
        request = bytes([0x0A]) + _varint(len(name)) + name if name else b""
        try:
            reply = await call(request, timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            code = "".join(word.title() for word in error.code().name.split("_"))
            return "critical", f"rpc error: code = {code} desc = {error.details()}"
        if serving_status(reply) == SERVING:
            return "passing", f"gRPC check {self._target}: success"
        return "critical", f"gRPC {self._target} serving status: {serving_status(reply)}"

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()


def serving_status(reply: bytes) -> int:
    """Field 1 of a HealthCheckResponse, 0 (UNKNOWN) where it is absent."""
    return reply[1] if len(reply) >= 2 and reply[0] == 0x08 else 0


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


Probe = TcpProbe | HttpProbe | GrpcProbe


def probe(definition: CheckDefinition) -> Probe:
    match definition.kind:
        case "tcp":
            return TcpProbe(definition)
        case "http":
            return HttpProbe(definition)
        case "grpc":
            return GrpcProbe(definition)
    raise ValueError(f"{definition.kind!r} checks are not probed")
