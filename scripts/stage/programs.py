"""
Which programs make the demo, and where each of them listens.

    registry    CONSUL_HTTP_ADDR or MESH_REGISTRY if set, else `consul` on PATH, else our own agent
    services    two instances each of orders, payments and inventory, one of notifications
    gateway     127.0.0.1:8080, or GATEWAY_PORT; its admin port 8081, or GATEWAY_ADMIN_PORT

Instance 1 of a service takes its known port if that is free; everything else a free one.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.environment import ROOT
from scripts.stage.child import Program
from scripts.stage.preflight import Unfit, free_port, is_free, require_free

HOST = "127.0.0.1"
REGISTRY_PORT = 8500
GATEWAY_PORT = 8080
ADMIN_PORT = 8081
LEGACY_PORT = 8090
INSTANCES = {"orders": 2, "payments": 2, "inventory": 2, "notifications": 1}
PORTS = {"orders": 50051, "payments": 50052, "inventory": 50053, "notifications": 50054}
# Threads of the C library take an arena each; a few are enough for processes of this size.
LEAN = {"MALLOC_ARENA_MAX": "2"}


@dataclass(frozen=True, slots=True)
class Registry:
    """
    The registry of this demo; `program` is None for one that runs already.

    `environment` is what the other programs must be told to find it.
    """

    name: str
    address: str
    program: Program | None
    environment: Mapping[str, str]
    embedded: bool = False


def registry(environ: Mapping[str, str], state: Path, *, free: bool) -> Registry:
    """The one the environment names, else a real Consul in dev mode, else the embedded agent."""
    given = environ.get("MESH_REGISTRY") or environ.get("CONSUL_HTTP_ADDR")
    if given:
        if "://" in given and given.split(":")[0] not in ("consul", "http", "https", "unix"):
            raise Unfit(f"MESH_REGISTRY={given}: the demo's processes need a Consul to meet in")
        address = given.split("://")[-1].split("/")[0]
        return Registry("the Consul you named", address, None, {})
    port = free_port() if free else REGISTRY_PORT
    require_free(port, "the registry", f" (if it is Consul: CONSUL_HTTP_ADDR={HOST}:{port})")
    consul = shutil.which("consul")
    if consul:
        name = "Consul in dev mode"
        program = _consul(consul, port, state)
    else:
        name = "embedded agent, for development"
        program = Program("registry", _module("discovery.agent", f"--port={port}"), LEAN)
    address = f"{HOST}:{port}"
    environment = {"MESH_REGISTRY": f"consul://{address}"}
    return Registry(name, address, program, environment, embedded=consul is None)


def _consul(binary: str, port: int, state: Path) -> Program:
    others = f"serf_lan = {free_port()} server = {free_port()} serf_wan = -1 dns = -1 grpc = -1"
    command = (
        *(binary, "agent", "-dev", f"-bind={HOST}", f"-client={HOST}"),
        *("-hcl", f"ports {{ http = {port} {others} }}"),
    )
    # "Started HTTP server" up to Consul 1.9, "Starting server" from 1.10.
    ready = r"Start(?:ed HTTP|ing) server: address=([\w.:]+)"
    # In dev mode it reads ./services/ as its own.
    return Program("registry", command, ready=ready, directory=state)


def services(where: Registry, state: Path, *, free: bool) -> list[Program]:
    """Every instance of every service, side by side."""
    programs = []
    for service, count in INSTANCES.items():
        for slot in range(1, count + 1):
            known = slot == 1 and not free and is_free(PORTS[service])
            port = PORTS[service] if known else 0
            command = _module(f"services.{service}", f"--port={port}", f"--instance={slot}")
            database = {"DATABASE_URL": f"sqlite:///{state / service}.db"}
            environment = {**LEAN, **where.environment, **database}
            programs.append(Program(f"{service}-{slot}", command, environment))
    return programs


def legacy(state: Path, *, free: bool) -> Program:
    """The old shop, which the gateway strangles."""
    port = free_port() if free else LEGACY_PORT
    require_free(port, "the old shop", "")
    command = _module("services.legacy", f"--port={port}")
    return Program("legacy", command, {**LEAN, "DATABASE_URL": f"sqlite:///{state / 'legacy'}.db"})


def gateway(
    where: Registry,
    environ: Mapping[str, str],
    *,
    free: bool,
    more: Mapping[str, str] | None = None,
) -> Program:
    """The gateway with the shop's pages, told `more` beside."""
    port = _port(environ, "GATEWAY_PORT", GATEWAY_PORT, free=free)
    require_free(port, "the gateway", " (GATEWAY_PORT=... chooses another)")
    admin = _port(environ, "GATEWAY_ADMIN_PORT", ADMIN_PORT, free=free)
    require_free(admin, "the gateway's admin port", " (GATEWAY_ADMIN_PORT=... chooses another)")
    command = _module("gateway", f"--port={port}", "--pages=services.edge.pages")
    environment = {**LEAN, **where.environment, "GATEWAY_ADMIN_PORT": str(admin), **(more or {})}
    return Program("gateway", command, environment)


def admin_url(program: Program) -> str:
    """Where the gateway's admin port is."""
    return f"http://{HOST}:{program.environment['GATEWAY_ADMIN_PORT']}"


def instance(program: Program) -> str:
    """The id under which a service's program registers itself."""
    service, slot = program.name.rsplit("-", 1)
    return f"{service}-{socket.gethostname()}-{slot}"


def _port(environ: Mapping[str, str], variable: str, usual: int, *, free: bool) -> int:
    if free and variable not in environ:
        return free_port()
    text = environ.get(variable) or str(usual)
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) < 65536):
        raise Unfit(f"{variable}={text} is not a port")
    return int(text)


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", name, *arguments)


def python() -> str:
    """This Python as one would type it here."""
    inside = Path(sys.executable).is_relative_to(ROOT) and Path.cwd() == ROOT
    return os.path.relpath(sys.executable, ROOT) if inside else sys.executable
