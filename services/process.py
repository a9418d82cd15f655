"""
The frame around every service process: arguments, environment, one clear line when it can't run.

    python -m services.orders [--host 127.0.0.1] [--port 0] [--instance 1]

    DATABASE_URL                       its database; default sqlite:///.demo/<service>.db
    MESH_REGISTRY, CONSUL_HTTP_ADDR    its registry; default consul://127.0.0.1:8500
    MESH_METRICS                       PORT or HOST:PORT for its /metrics; none unless told
    EVENTS_URL                         a broker for events, see mesh/events/url.py; default: none
    MESH_IDENTITY_KEY                  a file of secrets: who calls has to be proven; see access.py
    MESH_JWKS, MESH_JWT_ISSUER, MESH_JWT_AUDIENCE   then, whose bearer tokens prove it as well
    SHOP_STAFF                         then, who may see and do all, such as user:ada,key:till

Exit 0 after SIGTERM or SIGINT and a drain, 2 for a usage or an environment that can't work.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import mesh
from discovery import DiscoveryError, Registry
from mesh.events.bus import BusError
from mesh.identity.settings import IdentityError
from mesh.loop import run, settle
from mesh.policy.config import Policy
from mesh.server import Limits
from mesh.store import StoreError
from mesh.telemetry.figures import Figures
from mesh.telemetry.metrics import ClientMetrics
from services.access import OPEN, Access
from services.bus import MakeBus, from_url

# The contract with its comments, for reflection; an installed shop has none beside it.
_BESIDE = Path(__file__).resolve().parent.parent / "protos" / "shop.binpb"
CONTRACT = _BESIDE if _BESIDE.is_file() else None

# For servers whose calls mostly wait (for an order's end, a change, a card): how many are in
# progress says nothing of how busy the server is, so only the fixed bound holds.
WAITING = Limits(adaptive=None)


@dataclass(slots=True)
class Process:
    """What one instance was told when it was started."""

    service: str
    host: str
    port: int
    slot: int
    database: str
    access: Access = OPEN
    # Where its figures are shown, and they: of what it serves and of what it calls.
    metrics: tuple[str, int] | None = None
    figures: Figures | None = None
    calls: ClientMetrics | None = None
    bus: MakeBus | None = None
    serving: bool = False

    @property
    def instance(self) -> str:
        """The instance's id: service, host and slot."""
        return f"{self.service}-{socket.gethostname()}-{self.slot}"

    def channel(self, target: str, policy: Policy, registry: Registry) -> mesh.Channel:
        """A channel to *target*, whose calls are counted where figures are shown."""
        emit = self.calls.of(target) if self.calls is not None else None
        return mesh.Channel(target, policy, registry=registry, transport="http2", emit=emit)

    def ready(self, address: str) -> None:
        """Say that the instance serves at *address*."""
        self.serving = True
        settle()
        print(f"{self.instance} listening on {address}", flush=True)


Serve = Callable[[Process], Awaitable[None]]


def main(service: str, serve: Serve, arguments: Sequence[str] | None = None) -> int:
    """Run one instance of *service* until a signal ends it; the exit code."""
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(name)s %(levelname)s %(message)s",
    )
    process = read(service, sys.argv[1:] if arguments is None else arguments, os.environ)
    try:
        run(_serve(serve, process))
    except (StoreError, DiscoveryError, _CantListen) as error:
        return _say(service, str(error))
    except KeyboardInterrupt:  # before the server heard signals: nothing was begun
        return 130
    return 0


def read(service: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Process:
    """The process that *arguments* and *environment* describe; exits with 2 when they do not."""
    parser = _Parser(prog=f"python -m services.{service}", description=f"Serves {service}.")
    parser.service = service
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=_port, default=0, help="the port; 0 is a free one")
    parser.add_argument(
        "--instance", type=_slot, default=1, help="which instance this is: 1, 2, ..."
    )
    told = parser.parse_args(arguments)
    database = environment.get("DATABASE_URL") or f"sqlite:///.demo/{service}.db"
    try:
        access = Access.from_environment(environment)
        bus = from_url(environment.get("EVENTS_URL", ""))
    except (IdentityError, BusError) as error:
        sys.exit(_say(service, str(error)))
    try:
        metrics = _metrics(environment.get("MESH_METRICS") or "")
    except argparse.ArgumentTypeError as error:
        sys.exit(_say(service, f"MESH_METRICS: {error}"))
    process = Process(
        service, told.host, told.port, told.instance, database, access, metrics=metrics, bus=bus
    )
    if metrics is not None:
        process.figures = Figures()
        process.calls = ClientMetrics(process.figures)
    return process


async def _serve(serve: Serve, process: Process) -> None:
    try:
        await serve(process)
    except OSError as error:
        if process.serving:
            raise
        # A port that is taken, an address that is not ours.
        raise _CantListen(f"{process.host}:{process.port}: {error.strerror or error}") from error


class _CantListen(Exception):
    """The address can't be listened on."""


class _Parser(argparse.ArgumentParser):
    service = ""

    def error(self, message: str) -> NoReturn:
        sys.exit(_say(self.service, f"{message} (see --help)"))


def _say(service: str, why: str) -> int:
    print(f"{service}: {' '.join(why.split())}", file=sys.stderr)
    return 2


def _port(text: str) -> int:
    port = _slot(text) if text != "0" else 0
    if port > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return port


def _metrics(text: str) -> tuple[str, int] | None:
    host, _, port = text.rpartition(":")
    return (host.strip("[]") or "127.0.0.1", _port(port)) if text else None


def _slot(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:9]) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
