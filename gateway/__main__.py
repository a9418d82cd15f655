"""
python -m gateway: REST for every service of the registry, until SIGTERM.

Its settings are those of gateway.environment.  Exit code 2 and one line when it cannot start as
told, 0 when it was stopped.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys

import discovery
from gateway.environment import Settings, Usage, settings
from gateway.request_id import InLog
from gateway.router import Ambiguous
from gateway.rule import RuleError
from gateway.serve import Gateway, ListenError
from gateway.strangler.book import BookError
from gateway.strangler.strangler import Strangler
from gateway.together import Together
from gateway.workers import inherited, orphaned, supervise
from mesh.errors import PolicyError
from mesh.loop import run, settle


def main(arguments: list[str] | None = None) -> int:
    _log_to_stderr()
    try:
        given = sys.argv[1:] if arguments is None else arguments
        told = settings(given, os.environ)
        if told.workers > 1 and told.worker is None:
            # One line here and not one from each worker.
            discovery.from_environment()
            _strangler(told, Together())
            return asyncio.run(supervise(given, told.host, told.port, told.workers, _say))
        run(_serve(told))
    except (Usage, ListenError, discovery.DiscoveryError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 2
    return 0


async def _serve(told: Settings) -> None:
    async with discovery.from_environment() as registry:
        # Operators talk to the first worker; the others lead there.
        together = told.worker.together if told.worker is not None else Together()
        first = together.worker == 0
        gateway = Gateway(
            registry,
            admin=told.admin if first else None,
            guard=told.guard,
            cors=told.cors,
            strangler=_strangler(told, together),
            together=together,
            measured=told.admin is not None,
        )
        if not first and told.admin is not None:
            gateway.app.admin_url = told.admin_url
        try:
            if told.pages is not None:
                told.pages(gateway)
        except (RuleError, Ambiguous, ValueError) as error:
            raise Usage(f"pages: {error}") from error
        if told.worker is None:
            await gateway.run(told.host, told.port, _serves)
        else:
            await gateway.run(told.host, 0, _serves, inherited(told.worker.fd), orphaned)


def _strangler(told: Settings, together: Together) -> Strangler | None:
    if told.strangler is None:
        return None
    try:
        return Strangler(*told.strangler, together)
    except (PolicyError, BookError) as error:
        raise Usage(f"GATEWAY_STRANGLER: {error}") from error


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(InLog())
    logging.basicConfig(
        level=logging.WARNING,
        format="%(levelname)s %(name)s%(request)s %(message)s",
        handlers=[handler],
    )


def _serves(url: str) -> None:
    settle()
    _say(url)


def _say(url: str) -> None:
    print(f"gateway listening on {url}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
