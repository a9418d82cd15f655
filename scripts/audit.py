"""
Say whether money, stock, orders and events of a running shop agree, asking each service itself.

    scripts/audit                         one line for each disagreement, with the ids of it
    scripts/audit --wait 30               until nothing is in flight, at most so long
    scripts/audit --stock before.json     keeps what came in of each product; later, compares it

The shop is found as every client finds it: MESH_REGISTRY, else CONSUL_HTTP_ADDR, else the Consul on
this machine.  Exit 0 when all agrees, orders in flight or not; 1 when something does not; 2 for a
usage or a shop that can't be asked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import grpc

import discovery
from mesh.identity import speaking
from services.access import Access
from services.audit.auditing import Report, audit
from services.audit.reading import Shop, read
from services.audit.service import shop

LOOK_SECONDS = 0.25
# In flight, that many are named; the others are counted.
NAMED = 10


async def settle(books: Shop, imported: Mapping[str, int], seconds: float) -> Report:
    """The report once nothing is in flight, something is wrong, or the time is up."""
    ends = time.monotonic() + seconds
    while True:
        report = audit(await read(books, imported))
        if report.settled or report.wrong or time.monotonic() >= ends:
            return report
        await asyncio.sleep(LOOK_SECONDS)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/audit", description="Does the shop agree?")
    parser.add_argument("--registry", default="", help="its URL, such as consul://127.0.0.1:8500")
    parser.add_argument("--wait", type=float, default=0.0, help="seconds to wait for its rest")
    parser.add_argument("--stock", type=Path, help="a file of what came in: written or compared")
    asked = parser.parse_args(arguments)
    try:
        imported = _imported(asked.stock)
        report = asyncio.run(_audit(asked.registry, imported, asked.wait))
        if asked.stock and not imported:
            asked.stock.write_text(json.dumps(dict(report.imported), indent=2) + "\n")
    except grpc.aio.AioRpcError as error:
        return _complain(f"{error.code().name}: {error.details()}")
    except (discovery.DiscoveryError, OSError, ValueError) as error:
        return _complain(str(error))
    _print(report)
    return 1 if report.wrong else 0


async def _audit(registry: str, imported: Mapping[str, int], seconds: float) -> Report:
    environ = {**os.environ, "MESH_REGISTRY": registry} if registry else os.environ
    async with discovery.from_environment(environ) as found, shop(found) as books:
        # As the auditor, where who asks has to be proven.
        with speaking(Access.from_environment(environ).saying("audit")):
            return await settle(books, imported, seconds)


def _imported(file: Path | None) -> dict[str, int]:
    """What the file says came in of each product; nothing when there is none yet."""
    if file is None or not file.exists():
        return {}
    try:
        kept = json.loads(file.read_text())
        return {str(product): int(count) for product, count in kept.items()}
    except (ValueError, AttributeError, TypeError):
        raise ValueError(f"{file}: is no list of products and how many came in") from None


def _print(report: Report) -> None:
    for finding in report.in_flight[:NAMED]:
        print(f"in flight  {finding.text}")
    if len(report.in_flight) > NAMED:
        print(f"in flight  {len(report.in_flight) - NAMED} more")
    for finding in report.wrong:
        print(f"WRONG      {finding.subject.value.lower()}: {finding.text}")
    figures = ", ".join(f"{name} {value}" for name, value in report.figures.items())
    verdict = f"{len(report.wrong)} disagreements" if report.wrong else "all agrees"
    print(f"audit: {verdict}; {figures}")


def _complain(why: str) -> int:
    print(f"audit: {' '.join(why.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
