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
from gateway.router import Ambiguous
from gateway.rule import RuleError
from gateway.serve import Gateway, ListenError


def main(arguments: list[str] | None = None) -> int:
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s %(name)s %(message)s", stream=sys.stderr
    )
    try:
        asyncio.run(_serve(settings(arguments, os.environ)))
    except (Usage, ListenError, discovery.DiscoveryError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 2
    return 0


async def _serve(told: Settings) -> None:
    async with discovery.from_environment() as registry:
        gateway = Gateway(registry, admin_url=told.admin_url, guard=told.guard, cors=told.cors)
        try:
            if told.pages is not None:
                told.pages(gateway)
        except (RuleError, Ambiguous, ValueError) as error:
            raise Usage(f"pages: {error}") from error
        await gateway.run(
            told.host, told.port, lambda url: print(f"gateway listening on {url}", flush=True)
        )


if __name__ == "__main__":
    sys.exit(main())
