"""
What the gateway is told by its command line and its environment; every setting is off when absent.

    GATEWAY_HOST, GATEWAY_PORT      where it listens (127.0.0.1, 8080)
    GATEWAY_PAGES                   a module with `def pages(gateway)`, such as services.edge.pages
    GATEWAY_ADMIN_PORT              the admin port, where "/" leads; see gateway.admin
    GATEWAY_ADMIN_HOST              where that listens (127.0.0.1)
    GATEWAY_WORKERS                 how many processes share the port (1)
    GATEWAY_CORS_ORIGINS            origins whose pages may call, joined by commas; * is any
    GATEWAY_API_KEYS                a file of API keys, see gateway.keys
    GATEWAY_JWKS                    file or URL of the keys that bearer tokens are signed with
    GATEWAY_JWT_ISSUER, _AUDIENCE   what a token's iss and aud must be
    MESH_IDENTITY_KEY               a file of secrets, by which services believe who asks
    GATEWAY_RATE_LIMIT              how often each key, token or address may ask, as 10, 10:20,
                                    600/min or 10000/d:500 (gateway.rates)
    GATEWAY_RATES                   a file of rates for some of them, see gateway.rates; a change
                                    is in force within a second, one that is wrong never
    GATEWAY_STRANGLER               a file: routes that move from an old HTTP service, see
                                    gateway.strangler.configuration
    GATEWAY_STRANGLER_STATE         where it is kept how far they are (that file and ".state")
    MESH_REGISTRY, CONSUL_HTTP_ADDR the registry
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from gateway.cors import Cors
from gateway.guard import Guard
from gateway.keys import ApiKeys, KeysError
from gateway.listen import link
from gateway.quota import Quota
from gateway.rates import Rate, Rates, RatesError
from gateway.rates_file import RatesFile
from gateway.serve import Gateway
from gateway.strangler.configuration import read
from gateway.workers import MOST, Worker
from mesh.errors import PolicyError
from mesh.identity.caller import Verifier
from mesh.identity.seal import Seal
from mesh.identity.settings import KEY, IdentityError, seal, verifier


class Usage(Exception):
    """What was asked for cannot be done; the message is the one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a gateway is made of, checked."""

    host: str
    port: int
    # How many processes share the port; in one of them, what its supervisor told it.
    workers: int
    worker: Worker | None
    pages: Callable[[Gateway], None] | None
    admin: tuple[str, int] | None
    guard: Guard
    cors: Cors
    # The strangler's file and that of its state.
    strangler: tuple[Path, Path] | None

    @property
    def admin_url(self) -> str:
        """Where the admin port is, when it is not told to be any free one."""
        return link(*self.admin) + "/" if self.admin is not None else ""


def settings(arguments: list[str] | None, environ: Mapping[str, str]) -> Settings:
    """The settings, or Usage; argparse itself exits on an unknown option."""
    parser = argparse.ArgumentParser(
        prog="python -m gateway", description="REST for every gRPC service of the registry."
    )
    parser.add_argument("--host", default=environ.get("GATEWAY_HOST") or "127.0.0.1")
    parser.add_argument("--port", default=environ.get("GATEWAY_PORT") or "8080")
    parser.add_argument("--pages", default=environ.get("GATEWAY_PAGES") or "", metavar="MODULE")
    parser.add_argument("--workers", default=environ.get("GATEWAY_WORKERS") or "1", metavar="N")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    port = _port(asked.port, "the port")
    admin_host = environ.get("GATEWAY_ADMIN_HOST") or "127.0.0.1"
    admin = environ.get("GATEWAY_ADMIN_PORT") or ""
    workers, worker = _workers(asked.workers), _worker(asked.worker)
    tokens, sealing = _who(environ)
    if admin == "0" and workers > 1:
        raise Usage("GATEWAY_ADMIN_PORT is 0: workers must know the admin port")
    return Settings(
        host=asked.host,
        port=port,
        workers=workers,
        worker=worker,
        pages=_pages(asked.pages) if asked.pages else None,
        admin=(admin_host, _port(admin, "GATEWAY_ADMIN_PORT")) if admin else None,
        guard=Guard(_keys(environ), tokens, _quota(environ, worker), seal=sealing),
        cors=_cors(environ),
        strangler=_strangler(environ),
    )


def _port(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise Usage(f"{what} is {text!r}, not a number from 0 to 65535")
    return int(text)


def _workers(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST):
        raise Usage(f"the number of workers is {text!r}, not one from 1 to {MOST}")
    return int(text)


def _worker(text: str) -> Worker | None:
    try:
        return Worker.parse(text) if text else None
    except ValueError:
        raise Usage("--worker is what a gateway tells its own workers") from None


def _pages(name: str) -> Callable[[Gateway], None]:
    try:
        pages: Any = import_module(name).pages
    except (ImportError, AttributeError) as error:
        raise Usage(f"pages {name!r}: {error}") from error
    found: Callable[[Gateway], None] = pages
    return found


def _cors(environ: Mapping[str, str]) -> Cors:
    origins = (origin.strip() for origin in environ.get("GATEWAY_CORS_ORIGINS", "").split(","))
    try:
        return Cors(filter(None, origins))
    except ValueError as error:
        raise Usage(f"GATEWAY_CORS_ORIGINS: {error}") from error


def _keys(environ: Mapping[str, str]) -> ApiKeys | None:
    path = environ.get("GATEWAY_API_KEYS") or ""
    try:
        return ApiKeys.read(Path(path)) if path else None
    except KeysError as error:
        raise Usage(f"GATEWAY_API_KEYS: {path}: {error}") from error


def _who(environ: Mapping[str, str]) -> tuple[Verifier | None, Seal | None]:
    try:
        tokens, sealing = verifier(environ, "GATEWAY"), seal(environ)
    except IdentityError as error:
        raise Usage(str(error)) from error
    if sealing is not None and tokens is None and not environ.get("GATEWAY_API_KEYS"):
        raise Usage(f"{KEY} needs GATEWAY_JWKS or GATEWAY_API_KEYS: nobody could be named")
    return tokens, sealing


def _strangler(environ: Mapping[str, str]) -> tuple[Path, Path] | None:
    text = environ.get("GATEWAY_STRANGLER") or ""
    if not text:
        return None
    path = Path(text)
    try:
        read(path)
    except PolicyError as error:
        raise Usage(f"GATEWAY_STRANGLER: {error}") from error
    return path, Path(environ.get("GATEWAY_STRANGLER_STATE") or f"{path}.state")


def _quota(environ: Mapping[str, str], worker: Worker | None) -> Quota | None:
    text, path = environ.get("GATEWAY_RATE_LIMIT") or "", environ.get("GATEWAY_RATES") or ""
    try:
        usual = Rate.parse(text) if text else None
    except ValueError as error:
        raise Usage(f"GATEWAY_RATE_LIMIT: {error}") from error
    try:
        file = RatesFile(Path(path), usual) if path else None
    except RatesError as error:
        raise Usage(f"GATEWAY_RATES: {path}: {error}") from error
    if file is None and usual is None:
        return None
    rates = file.first if file is not None else Rates.parse("", usual)
    return Quota(rates, worker.together if worker is not None else None, file=file)
