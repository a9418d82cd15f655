"""
What is compared: our gateway, the FastAPI way and Envoy's transcoder, each a process on one core.

    async with rivals(backend, core) as found: ...      # by name; Envoy only where it is to be had

All of them are alive at the same time, in front of the same backend.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import discovery
from discovery import Instance
from discovery.agent import Agent
from scripts import parts
from scripts.environment import ROOT
from scripts.stage.preflight import free_port

OURS, FASTAPI, LEAN, ENVOY = "proxyless", "FastAPI", "FastAPI, lean", "Envoy transcoder"
SERVICE = "shop.orders.v1.OrderService"
START_SECONDS = 30.0
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway's process and its port."""

    pid: int
    port: int

    def cpu(self) -> float:
        """Seconds of CPU, user and system, of the process and its children so far."""
        return sum(_cpu_of(pid) for pid in _tree(self.pid))


def _tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in _tree(int(child)))]


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@asynccontextmanager
async def rivals(backend: int, core: int) -> AsyncIterator[dict[str, Running]]:
    """Start everything that is compared on `core`, and stop it at the end."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        agent = await stack.enter_async_context(Agent.serving(port=0))
        registry = await stack.enter_async_context(discovery.connect(agent.url))
        meta = {"grpc_services": SERVICE}
        instance = Instance("orders", "127.0.0.1", backend, tags=("grpc",), meta=meta, check=None)
        await stack.enter_async_context(registry.register(instance))
        uvicorn = [sys.executable, "-m", "uvicorn", "--no-access-log", "--log-level=warning"]
        target = {"BACKEND": f"127.0.0.1:{backend}"}
        commands: dict[str, tuple[list[str], dict[str, str]]] = {
            # With all that it counts and shows, as nobody runs it without.
            OURS: (
                [sys.executable, "-m", "gateway", "--port"],
                {"MESH_REGISTRY": agent.url, "GATEWAY_ADMIN_PORT": str(free_port())},
            ),
            FASTAPI: ([*uvicorn, "scripts.measuring.fastapi_way:app", "--port"], target),
            LEAN: ([*uvicorn, "scripts.measuring.fastapi_way:lean", "--port"], target),
        }
        config = folder / "envoy.json"
        try:
            envoy = parts.ensure("envoy")
        except (parts.Unavailable, OSError) as why:
            print(f"bench: without Envoy, {why}")
        else:
            command = [str(envoy), "--concurrency", "1", "--log-level", "error"]
            command += ["--disable-hot-restart", "--config-path", str(config)]
            commands[ENVOY] = (command, {})
        found: dict[str, Running] = {}
        for name, (command, environ) in commands.items():
            port = free_port()
            config.write_text(json.dumps(transcoder(port, backend)))
            told = command if name == ENVOY else [*command, str(port)]
            found[name] = await stack.enter_async_context(_started(told, environ, port, core))
        yield found


@asynccontextmanager
async def _started(
    command: list[str], environ: dict[str, str], port: int, core: int
) -> AsyncIterator[Running]:
    here = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})  # a child inherits it
    try:
        process = await asyncio.create_subprocess_exec(
            *command, env={**os.environ, **environ}, cwd=ROOT, stdout=asyncio.subprocess.DEVNULL
        )
    finally:
        os.sched_setaffinity(0, here)
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await listens(port):
                if process.returncode is not None:
                    raise RuntimeError(f"{command[0]} ended with {process.returncode}")
                await asyncio.sleep(0.05)
        yield Running(process.pid, port)
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def transcoder(port: int, backend: int) -> dict[str, Any]:
    """Envoy's own configuration for the same routes: grpc_json_transcoder, strict, with retries."""
    extensions = "type.googleapis.com/envoy.extensions"

    def filtered(name: str, kind: str, **settings: Any) -> dict[str, Any]:
        return {"name": name, "typed_config": {"@type": f"{extensions}.{kind}", **settings}}

    def at(where: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": where}}

    retries = {"retry_on": "unavailable,resource-exhausted", "num_retries": 2}
    # After transcoding the path is gRPC's own.
    route = {
        "match": {"prefix": f"/{SERVICE}"},
        "route": {"cluster": "orders", "timeout": "30s", "retry_policy": retries},
    }
    manager = filtered(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="edge",
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[
            filtered(
                "envoy.filters.http.grpc_json_transcoder",
                "filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
                proto_descriptor=str(ROOT / "protos" / "shop.binpb"),
                services=[SERVICE],
                convert_grpc_status=True,
                print_options={"always_print_primitive_fields": True},
                request_validation_options={
                    "reject_unknown_method": True,
                    "reject_unknown_query_parameters": True,
                },
            ),
            filtered("envoy.filters.http.router", "filters.http.router.v3.Router"),
        ],
    )
    http2: dict[str, Any] = {"explicit_http_config": {"http2_protocol_options": {}}}
    cluster = {
        "name": "orders",
        "type": "STATIC",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{extensions}.upstreams.http.v3.HttpProtocolOptions",
                **http2,
            }
        },
        "load_assignment": {
            "cluster_name": "orders",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at(backend)}}]}],
        },
    }
    listener = {"name": "edge", "address": at(port), "filter_chains": [{"filters": [manager]}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}
