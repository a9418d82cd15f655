"""Envoy between a client and a gRPC server: one hop of plain HTTP/2, as a mesh would have it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from scripts.measuring.gateways import listens
from scripts.stage.preflight import free_port

ENVOY = Path(__file__).resolve().parents[2] / ".tools" / "envoy"
EXTENSIONS = "type.googleapis.com/envoy.extensions"


def _typed(name: str, kind: str, **settings: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"{EXTENSIONS}.{kind}", **settings}}


def _at(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _configuration(port: int, backend: int, streams: int) -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "echo", "timeout": "0s"}}
    manager = _typed(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="hop",
        codec_type="HTTP2",
        http2_protocol_options={"max_concurrent_streams": streams},
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[_typed("envoy.filters.http.router", "filters.http.router.v3.Router")],
    )
    options = f"{EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions"
    cluster = {
        "name": "echo",
        "type": "STATIC",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": options,
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": "echo",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _at(backend)}}]}],
        },
    }
    listener = {"name": "hop", "address": _at(port), "filter_chains": [{"filters": [manager]}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


@asynccontextmanager
async def hop(address: str, folder: Path, *, streams: int = 100) -> AsyncIterator[str]:
    """Envoy before `address`, on one thread; at most so many streams a connection."""
    port = free_port()
    config = folder / "envoy.json"
    config.write_text(json.dumps(_configuration(port, int(address.rpartition(":")[2]), streams)))
    command = [str(ENVOY), "--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]
    child = await asyncio.create_subprocess_exec(*command, "--config-path", str(config))
    try:
        async with asyncio.timeout(30):
            while not await listens(port):
                assert child.returncode is None, f"Envoy ended with {child.returncode}"
                await asyncio.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
