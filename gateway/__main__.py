"""
python -m gateway: REST for every service of the registry, until SIGTERM.

    GATEWAY_HOST, GATEWAY_PORT      where it listens (127.0.0.1, 8080)
    GATEWAY_PAGES                   a module with `def pages(gateway)`, such as services.edge.pages
    GATEWAY_ADMIN_PORT              where "/" leads
    MESH_REGISTRY, CONSUL_HTTP_ADDR the registry

Exit code 2 and one line when it cannot start as told, 0 when it was stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import discovery
from gateway.router import Ambiguous
from gateway.rule import RuleError
from gateway.serve import Gateway, ListenError


class Usage(Exception):
    """What was asked for cannot be done; the message is the one line."""


def main(arguments: list[str] | None = None) -> int:
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    try:
        asyncio.run(_serve(*_settings(arguments, os.environ)))
    except (Usage, ListenError, discovery.DiscoveryError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 2
    return 0


def _settings(
    arguments: list[str] | None, environ: Mapping[str, str]
) -> tuple[str, int, Callable[[Gateway], None] | None, str]:
    parser = argparse.ArgumentParser(
        prog="python -m gateway", description="REST for every gRPC service of the registry."
    )
    parser.add_argument("--host", default=environ.get("GATEWAY_HOST") or "127.0.0.1")
    parser.add_argument("--port", default=environ.get("GATEWAY_PORT") or "8080")
    parser.add_argument("--pages", default=environ.get("GATEWAY_PAGES") or "", metavar="MODULE")
    asked = parser.parse_args(arguments)
    port = _port(asked.port, "the port")
    admin = environ.get("GATEWAY_ADMIN_PORT") or ""
    admin_url = f"http://{asked.host}:{_port(admin, 'GATEWAY_ADMIN_PORT')}/" if admin else ""
    return asked.host, port, _pages(asked.pages) if asked.pages else None, admin_url


def _port(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise Usage(f"{what} is {text!r}, not a number from 0 to 65535")
    return int(text)


def _pages(name: str) -> Callable[[Gateway], None]:
    try:
        pages: Any = import_module(name).pages
    except (ImportError, AttributeError) as error:
        raise Usage(f"pages {name!r}: {error}") from error
    found: Callable[[Gateway], None] = pages
    return found


async def _serve(
    host: str, port: int, pages: Callable[[Gateway], None] | None, admin_url: str
) -> None:
    async with discovery.from_environment() as registry:
        gateway = Gateway(registry, admin_url=admin_url)
        try:
            if pages is not None:
                pages(gateway)
        except (RuleError, Ambiguous, ValueError) as error:
            raise Usage(f"pages: {error}") from error
        await gateway.run(host, port, lambda url: print(f"gateway listening on {url}", flush=True))


if __name__ == "__main__":
    sys.exit(main())
