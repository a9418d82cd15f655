"""
python -m discovery.agent: the embedded development agent as a process of its own.

Prints its address once it answers; SIGTERM and SIGINT stop it; 2 is the exit code for bad usage
and for an address that cannot be bound.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import sys
from pathlib import Path

from discovery.agent.keeping import StateError
from discovery.agent.server import Agent


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m discovery.agent", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8500, help="0 is a free one")
    parser.add_argument("--state", type=Path, help="a directory to keep the key-value store in")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning"])
    asked = parser.parse_args()
    logging.basicConfig(
        level=asked.log_level.upper(), format="%(asctime)s %(name)s %(levelname)s %(message)s"
    )
    try:
        asyncio.run(_serve(asked.host, asked.port, asked.state))
    except (OSError, OverflowError) as error:
        print(f"agent: cannot listen on {asked.host}:{asked.port}: {error}", file=sys.stderr)
        return 2
    except StateError as error:
        print(f"agent: {error}", file=sys.stderr)
        return 2
    return 0


async def _serve(host: str, port: int, state: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Agent.serving(host=host, port=port, state=state) as agent:
        print(f"agent listening on {agent.address}", flush=True)
        logging.getLogger("discovery.agent").info(
            "this is the embedded agent, for development: one node, in memory, without ACLs;"
            " run Consul in production"
        )
        # What was imported stays: a collection that walks through it takes 5 ms, in which no
        # watcher hears of anything.
        gc.collect()
        gc.freeze()
        await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
